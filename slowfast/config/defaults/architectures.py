"""Defaults of further models (X3D, REGNET, MVIT, TIMESFORMER) and of self-supervised learning (MASK, CONTRASTIVE)."""

# X3D.
X3D = {
    # Width multiplier, rounded to multiples of 8.
    "WIDTH_FACTOR": 1.0,
    # Depth multiplier, rounded up.
    "DEPTH_FACTOR": 1.0,
    # Expansion inside a block.
    "BOTTLENECK_FACTOR": 1.0,
    # Channels of the stem, before WIDTH_FACTOR, and of the first stage unless SCALE_RES2; each further stage doubles
    # them.
    "DIM_C1": 12,
    # Channels of the layer before the last.
    "DIM_C5": 2048,
    # Double the channels in the first stage too.
    "SCALE_RES2": False,
    # Add a batch norm before the last linear layer.
    "BN_LIN5": False,
    # Use depthwise 3x3x3 convolutions; False: RESNET.NUM_GROUPS groups.
    "CHANNELWISE_3x3x3": True,
    # Add a batch norm to the shortcut of a block that changes the size and not the channels. PyTorchVideo's X3D has
    # none.
    "SHORTCUT_BN": True,
}

# RegNet3D. It has its own depths, widths, groups and temporal kernels, plain batch norms, and softmax in evaluation; so
# RESNET.*, NONLOCAL.*, BN.NORM_TYPE and MODEL.HEAD_ACT have no effect on it.
REGNET = {
    # Size, by multiply-adds of an image of 224 x 224 pixels: 400M or 4G.
    "DEPTH": "400M",
}

# MViT and MViTv2.
MVIT = {
    # Pooling of queries, keys and values: conv, conv_unshared, avg or max.
    "MODE": "conv",
    # Pool before the linear projections to queries, keys and values instead of after.
    "POOL_FIRST": False,
    # Use a class token.
    "CLS_EMBED_ON": True,
    # [time, height, width] of the patch convolution's kernel.
    "PATCH_KERNEL": [3, 7, 7],
    # [time, height, width] of its stride.
    "PATCH_STRIDE": [2, 4, 4],
    # [time, height, width] of its padding.
    "PATCH_PADDING": [2, 4, 4],
    # Use 2D patches, for images.
    "PATCH_2D": False,
    # Embedding dimension of the first block.
    "EMBED_DIM": 96,
    # Attention heads of the first block.
    "NUM_HEADS": 1,
    # MLP hidden dimension over embedding dimension.
    "MLP_RATIO": 4.0,
    # Number of blocks.
    "DEPTH": 16,
    # Use a bias in the projections to queries, keys and values.
    "QKV_BIAS": True,
    # Drop-path rate of the last block, at least 0 and under 1; it rises linearly from 0.
    "DROPPATH_RATE": 0.1,
    # Dropout rate, 0 to 1.
    "DROPOUT_RATE": 0.0,
    # Initial value of LayerScale; 0 for none.
    "LAYER_SCALE_INIT_VALUE": 0.0,
    # Factor of the initial weights of the last linear layer.
    "HEAD_INIT_SCALE": 1.0,
    # Norm: layernorm.
    "NORM": "layernorm",
    # Add a norm after the patch embedding.
    "NORM_STEM": False,
    # Use separate position embeddings for time and space.
    "SEP_POS_EMBED": False,
    # Use absolute position embeddings.
    "USE_ABS_POS": True,
    # Use fixed 3D sin-cos position embeddings instead of learned ones.
    "USE_FIXED_SINCOS_POS": False,
    # Apply no weight decay to position embeddings and class token.
    "ZERO_DECAY_POS_CLS": True,
    # Use relative position embeddings in space.
    "REL_POS_SPATIAL": False,
    # Use relative position embeddings in time.
    "REL_POS_TEMPORAL": False,
    # Initialize relative position embeddings to 0.
    "REL_POS_ZERO_INIT": False,
    # [block, factor] pairs: factor of the channels at a block.
    "DIM_MUL": [],
    # [block, factor] pairs: factor of the heads at a block.
    "HEAD_MUL": [],
    # Change the channels in the attention instead of in the MLP.
    "DIM_MUL_IN_ATT": False,
    # [block, time, height, width]: stride of the pooling of keys and values.
    "POOL_KV_STRIDE": [],
    # [block, time, height, width]: stride of the pooling of queries.
    "POOL_Q_STRIDE": [],
    # [time, height, width]: stride of the pooling of keys and values in the first block, divided by the query strides
    # up to each block; None for POOL_KV_STRIDE.
    "POOL_KV_STRIDE_ADAPTIVE": None,
    # [time, height, width] of the pooling kernel; None for stride + 1.
    "POOL_KVQ_KERNEL": None,
    # Add the pooled queries to the attention's output.
    "RESIDUAL_POOLING": False,
    # Use separate projections to queries, keys and values.
    "SEPARATE_QKV": False,
    # Classify the mean of the tokens instead of the class token.
    "USE_MEAN_POOLING": False,
    # Reversible blocks.
    "REV": {
        # Use them.
        "ENABLE": False,
        # Joining of the two streams at the end.
        "RESPATH_FUSE": "concat",
        # Joining of the two streams before queries are pooled.
        "PRE_Q_FUSION": "avg",
        # Blocks at which a stage ends.
        "BUFFER_LAYERS": [],
        # Residual path of these blocks.
        "RES_PATH": "conv",
    },
}

# TimeSformer.
TIMESFORMER = {
    # Side of a patch, pixels.
    "PATCH_SIZE": 16,
    # Embedding dimension.
    "EMBED_DIM": 768,
    # Number of blocks.
    "DEPTH": 12,
    # Attention heads.
    "NUM_HEADS": 12,
    # MLP hidden dimension over embedding dimension.
    "MLP_RATIO": 4.0,
    # Use a bias in the projections to queries, keys and values.
    "QKV_BIAS": True,
    # Attention: divided_space_time (time first, then space).
    "ATTENTION_TYPE": "divided_space_time",
    # Dropout rate, 0 to 1.
    "DROPOUT_RATE": 0.0,
    # Drop-path rate of the last block, at least 0 and under 1; it rises linearly from 0.
    "DROPPATH_RATE": 0.1,
    # Apply no weight decay to position embeddings and class token.
    "ZERO_DECAY_POS_CLS": True,
}

# Masked autoencoding (MAE).
MASK = {
    # Train by masked autoencoding.
    "ENABLE": False,
    # Encode visible patches only.
    "MAE_ON": False,
    # Mask random patches instead of blocks.
    "MAE_RND_MASK": False,
    # Mask each frame on its own.
    "PER_FRAME_MASKING": False,
    # Compute the loss on every second frame.
    "TIME_STRIDE_LOSS": True,
    # Normalize target pixels by patch.
    "NORM_PRED_PIXEL": True,
    # Predict HOG features.
    "PRED_HOG": False,
    # Scale initial weights down with depth.
    "SCALE_INIT_BY_DEPTH": False,
    # Blocks of the decoder.
    "DECODER_DEPTH": 0,
    # Embedding dimension of the decoder.
    "DECODER_EMBED_DIM": 512,
    # Use separate position embeddings for time and space in the decoder.
    "DECODER_SEP_POS_EMBED": False,
    # [time, height, width]: kernel of the decoder's pooling of keys and values.
    "DEC_KV_KERNEL": [],
    # [time, height, width]: its stride.
    "DEC_KV_STRIDE": [],
    # Blocks whose output is decoded.
    "PRETRAIN_DEPTH": [15],
    # Decoder, by name.
    "HEAD_TYPE": "separate",
}

# Contrastive learning.
CONTRASTIVE = {
    # Method: mem, moco, byol, swav or simclr.
    "TYPE": "mem",
    # Temperature.
    "T": 0.07,
    # Embedding dimension.
    "DIM": 128,
    # Hidden dimension of the projection MLP.
    "MLP_DIM": 2048,
    # Layers of the projection MLP.
    "NUM_MLP_LAYERS": 1,
    # Use batch norm in the projection MLP.
    "BN_MLP": False,
    # Use synchronized batch norm in the projection MLP.
    "BN_SYNC_MLP": False,
    # Layers of each predictor.
    "PREDICTOR_DEPTHS": [],
    # Videos in the memory bank.
    "LENGTH": 239975,
    # Length of the queue.
    "QUEUE_LEN": 65536,
    # Memory bank, by name.
    "MEM_TYPE": "1d",
    # Interpolate the memory bank over time.
    "INTERP_MEMORY": False,
    # Queue all views of a video instead of one.
    "MOCO_MULTI_VIEW_QUEUE": False,
    # Length of SwAV's queue; 0 for none.
    "SWAV_QEUE_LEN": 0,
    # Momentum of the memory bank or of the key encoder, 0 to 1.
    "MOMENTUM": 0.5,
    # Raise the momentum to 1.
    "MOMENTUM_ANNEALING": False,
    # Least distance of two clips of a video, seconds.
    "DELTA_CLIPS_MIN": float("-inf"),
    # Greatest distance of two clips of a video, seconds.
    "DELTA_CLIPS_MAX": float("inf"),
    # Forward the clips one after the other.
    "SEQUENTIAL": False,
    # Shuffle batch norm within a host only.
    "LOCAL_SHUFFLE_BN": True,
    # SimCLR: take negatives from all processes.
    "SIMCLR_DIST_ON": True,
    # Evaluate by k-nearest neighbors.
    "KNN_ON": True,
    # Number of classes of that evaluation.
    "NUM_CLASSES_DOWNSTREAM": 400,
}
