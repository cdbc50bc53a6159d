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
    # Use 2D patches, for images (DATA.NUM_FRAMES 1). PATCH_KERNEL, PATCH_STRIDE and PATCH_PADDING are then
    # [height, width].
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
    # How attention gets the relative positions: "mask", a number for every pair of tokens; "channels", more channels of
    # queries and keys, without such numbers; "auto": on a GPU the faster one, as measured before the first batch; on
    # the CPU channels in training, a mask otherwise.
    "REL_POS_BIAS": "auto",
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
        # Use them. In training the backward pass computes their activations again, so memory hardly grows with DEPTH.
        # There is no class token, whatever CLS_EMBED_ON.
        "ENABLE": False,
        # Joining of the two streams at the end: add, max, min, avg, concat (side by side), or concat_linear_K (an MLP,
        # K times as wide inside, is added; ln+concat_linear_K: with a norm in front).
        "RESPATH_FUSE": "concat",
        # Joining of the two streams before queries are pooled, as RESPATH_FUSE.
        "PRE_Q_FUSION": "avg",
        # Blocks between two stages: the only ones that pool queries or change the channels.
        "BUFFER_LAYERS": [],
        # Pooling of the shortcut of these blocks: conv (that of the queries) or max.
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

# Masked learning: MAE and MaskFeat, over the blocks that MVIT describes.
MASK = {
    # Train MaskMViT by masks.
    "ENABLE": False,
    # MAE: encode visible patches only. False: MaskFeat, which encodes all, the masked ones replaced by a mask token.
    "MAE_ON": False,
    # MAE: draw masks of random patches in the model; False: in the loader (AUG.GEN_MASK_LOADER).
    "MAE_RND_MASK": False,
    # MAE: mask equally many patches in each frame.
    "PER_FRAME_MASKING": False,
    # Predict only the first of a patch's frames.
    "TIME_STRIDE_LOSS": True,
    # Normalize target pixels by mean and standard deviation of the patch.
    "NORM_PRED_PIXEL": True,
    # Predict HOG features instead of pixels.
    "PRED_HOG": False,
    # Divide the initial output weights of attention and MLP of block n, from 1, by sqrt(2 n).
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
    # Blocks, from 0, whose output is decoded; later blocks are left out. MAE takes one.
    "PRETRAIN_DEPTH": [15],
    # Head: separate (norm and linear map) or separate_xformer (transformer blocks before them).
    "HEAD_TYPE": "separate",
}

# Contrastive learning.
CONTRASTIVE = {
    # Method: moco, byol, swav or simclr; mem, the default as published, cannot be trained.
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
    # BYOL: layers of each predictor, at least 2.
    "PREDICTOR_DEPTHS": [],
    # mem: videos in the memory bank.
    "LENGTH": 239975,
    # MoCo: features in the queue, a multiple of the batch.
    "QUEUE_LEN": 65536,
    # mem: memory bank, by name.
    "MEM_TYPE": "1d",
    # mem: interpolate the memory bank over time.
    "INTERP_MEMORY": False,
    # MoCo: queue all clips of a video instead of one.
    "MOCO_MULTI_VIEW_QUEUE": False,
    # SwAV: features in the queue, which takes part from epoch 15 on; 0 for none.
    "SWAV_QEUE_LEN": 0,
    # Momentum of the key encoder, 0 to 1.
    "MOMENTUM": 0.5,
    # Raise the momentum to 1, along a cosine over SOLVER.MAX_EPOCH.
    "MOMENTUM_ANNEALING": False,
    # Several clips of a training video (DATA.TRAIN_CROP_NUM_TEMPORAL): least distance from the end of one to the start
    # of the next, frames of the video; under 0 they may overlap.
    "DELTA_CLIPS_MIN": float("-inf"),
    # Greatest such distance, frames of the video.
    "DELTA_CLIPS_MAX": float("inf"),
    # Take the clips of a video (SimCLR: pairs of them) one after the other, each forward and backward; saves memory.
    "SEQUENTIAL": False,
    # MoCo, BYOL: shuffle the clips of the key encoder over the processes of a host; False: of all hosts.
    "LOCAL_SHUFFLE_BN": True,
    # SimCLR: take negatives from all processes.
    "SIMCLR_DIST_ON": True,
    # Keep the features of training videos, and evaluate by the 200 nearest of them.
    "KNN_ON": True,
    # Number of classes of that evaluation, and so of the lists of videos.
    "NUM_CLASSES_DOWNSTREAM": 400,
}
