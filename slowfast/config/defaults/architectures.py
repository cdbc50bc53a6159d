"""Default settings of further models (X3D, REGNET, MVIT, TIMESFORMER) and of learning without labels."""

X3D = {
    # Multiplies all widths, rounded to multiples of 8.
    "WIDTH_FACTOR": 1.0,
    # Multiplies all depths, rounded up.
    "DEPTH_FACTOR": 1.0,
    # Width of the widest part of a block over that of the block.
    "BOTTLENECK_FACTOR": 1.0,
    # Channels of the stem, and those of the first stage unless SCALE_RES2, before WIDTH_FACTOR; each further stage has
    # twice as many.
    "DIM_C1": 12,
    # Channels of the layer before the last.
    "DIM_C5": 2048,
    # The first stage has twice the channels of the stem too.
    "SCALE_RES2": False,
    # Batch norm before the last linear layer.
    "BN_LIN5": False,
    # 3x3x3 convolutions within a channel only; False: in RESNET.NUM_GROUPS groups of channels.
    "CHANNELWISE_3x3x3": True,
}

REGNET = {
    # Size of the network, by its multiply-adds over a picture of 224 pixels: 400M or 4.0G.
    "DEPTH": "400M",
}

MVIT = {
    # How keys and values are pooled: conv, avg or max.
    "MODE": "conv",
    # Pool before the linear maps to queries, keys and values rather than after.
    "POOL_FIRST": False,
    # A token for the whole clip.
    "CLS_EMBED_ON": True,
    # [time, height, width] of a patch, frames and pixels.
    "PATCH_KERNEL": [3, 7, 7],
    # [time, height, width] from one patch to the next.
    "PATCH_STRIDE": [2, 4, 4],
    # [time, height, width] of the padding around the clip.
    "PATCH_PADDING": [2, 4, 4],
    # Patches of images rather than of clips.
    "PATCH_2D": False,
    # Channels of a token.
    "EMBED_DIM": 96,
    # Attention heads of the first block.
    "NUM_HEADS": 1,
    # Hidden channels of a block over its channels.
    "MLP_RATIO": 4.0,
    # Blocks.
    "DEPTH": 16,
    # Bias in the maps to queries, keys and values.
    "QKV_BIAS": True,
    # Share of branches dropped in training, 0 to 1.
    "DROPPATH_RATE": 0.1,
    # Share of values dropped in training, 0 to 1.
    "DROPOUT_RATE": 0.0,
    # First factor of each branch; 0 for none.
    "LAYER_SCALE_INIT_VALUE": 0.0,
    # Factor of the last layer's first weights.
    "HEAD_INIT_SCALE": 1.0,
    # Normalization, by name.
    "NORM": "layernorm",
    # Normalize right after the patches too.
    "NORM_STEM": False,
    # Positions of time and of space apart.
    "SEP_POS_EMBED": False,
    # Add positions to the tokens.
    "USE_ABS_POS": True,
    # Positions are fixed waves rather than learned.
    "USE_FIXED_SINCOS_POS": False,
    # No weight decay on positions and the clip's token.
    "ZERO_DECAY_POS_CLS": True,
    # Relative positions in space.
    "REL_POS_SPATIAL": False,
    # Relative positions in time.
    "REL_POS_TEMPORAL": False,
    # Relative positions start at zero.
    "REL_POS_ZERO_INIT": False,
    # [block, factor] pairs at which channels grow.
    "DIM_MUL": [],
    # [block, factor] pairs at which heads grow.
    "HEAD_MUL": [],
    # Let channels grow within the attention.
    "DIM_MUL_IN_ATT": False,
    # [block, time, height, width]: stride of the pooling of keys and values.
    "POOL_KV_STRIDE": [],
    # [block, time, height, width]: stride of the pooling of queries.
    "POOL_Q_STRIDE": [],
    # Pooling of keys and values in the first block, from which it falls as queries shrink; None for
    # POOL_KV_STRIDE.
    "POOL_KV_STRIDE_ADAPTIVE": None,
    # [time, height, width] of the pooling window; None for one more than the stride.
    "POOL_KVQ_KERNEL": None,
    # Add pooled queries to the attention's output.
    "RESIDUAL_POOLING": False,
    # Maps to queries, keys and values of their own.
    "SEPARATE_QKV": False,
    # Mean of the tokens as the clip's features.
    "USE_MEAN_POOLING": False,
    # Reversible blocks, which keep no activations.
    "REV": {
        # Use them.
        "ENABLE": False,
        # How the two streams become one at the end.
        "RESPATH_FUSE": "concat",
        # How they become one before queries are pooled.
        "PRE_Q_FUSION": "avg",
        # Blocks at which a stage ends.
        "BUFFER_LAYERS": [],
        # Kind of the path around such a block.
        "RES_PATH": "conv",
    },
}

TIMESFORMER = {
    # Side of a patch, pixels.
    "PATCH_SIZE": 16,
    # Channels of a token.
    "EMBED_DIM": 768,
    # Blocks.
    "DEPTH": 12,
    # Attention heads.
    "NUM_HEADS": 12,
    # Hidden channels of a block over its channels.
    "MLP_RATIO": 4.0,
    # Bias in the maps to queries, keys and values.
    "QKV_BIAS": True,
    # Who attends to whom: divided_space_time, over time and then over space.
    "ATTENTION_TYPE": "divided_space_time",
    # Share of values dropped in training, 0 to 1.
    "DROPOUT_RATE": 0.0,
    # Share of branches dropped in training in the last block, 0 to 1; less before.
    "DROPPATH_RATE": 0.1,
    # No weight decay on positions and the clip's token.
    "ZERO_DECAY_POS_CLS": True,
}

MASK = {
    # Learn by filling in masked patches.
    "ENABLE": False,
    # The encoder sees no masked patches.
    "MAE_ON": False,
    # Mask patches at random rather than in blocks.
    "MAE_RND_MASK": False,
    # Mask each frame for itself.
    "PER_FRAME_MASKING": False,
    # Loss on every second frame only.
    "TIME_STRIDE_LOSS": True,
    # The target is pixels, normalized by their patch.
    "NORM_PRED_PIXEL": True,
    # The target is histograms of gradients.
    "PRED_HOG": False,
    # First weights fall with depth.
    "SCALE_INIT_BY_DEPTH": False,
    # Blocks of the decoder.
    "DECODER_DEPTH": 0,
    # Channels of the decoder.
    "DECODER_EMBED_DIM": 512,
    # The decoder's positions of time and of space apart.
    "DECODER_SEP_POS_EMBED": False,
    # [time, height, width] of the decoder's pooling of keys and values.
    "DEC_KV_KERNEL": [],
    # Its stride, [time, height, width].
    "DEC_KV_STRIDE": [],
    # Blocks whose output is decoded.
    "PRETRAIN_DEPTH": [15],
    # Kind of the decoder, by name.
    "HEAD_TYPE": "separate",
}

CONTRASTIVE = {
    # Method, by name: mem, moco, byol, swav, simclr.
    "TYPE": "mem",
    # Temperature of the comparison.
    "T": 0.07,
    # Channels of the features that are compared.
    "DIM": 128,
    # Channels of the layers before them.
    "MLP_DIM": 2048,
    # Number of those layers.
    "NUM_MLP_LAYERS": 1,
    # Batch norm between those layers.
    "BN_MLP": False,
    # The same over all processes.
    "BN_SYNC_MLP": False,
    # Layers that predict one view from another, for each prediction.
    "PREDICTOR_DEPTHS": [],
    # Videos of which features are stored.
    "LENGTH": 239975,
    # Clips in the queue.
    "QUEUE_LEN": 65536,
    # Kind of the store, by name.
    "MEM_TYPE": "1d",
    # Blend the stored features of neighboring clips.
    "INTERP_MEMORY": False,
    # Queue all views of a video rather than one.
    "MOCO_MULTI_VIEW_QUEUE": False,
    # swav: clips in its queue; 0 for none.
    "SWAV_QEUE_LEN": 0,
    # Share of the old features or weights kept at an update, 0 to 1.
    "MOMENTUM": 0.5,
    # Let that share rise to 1.
    "MOMENTUM_ANNEALING": False,
    # Least distance of two clips of a video, seconds.
    "DELTA_CLIPS_MIN": float("-inf"),
    # Greatest distance of two clips of a video, seconds.
    "DELTA_CLIPS_MAX": float("inf"),
    # Clips one after the other through the network.
    "SEQUENTIAL": False,
    # Shuffle clips for batch norm within a host only.
    "LOCAL_SHUFFLE_BN": True,
    # simclr: compare over all processes.
    "SIMCLR_DIST_ON": True,
    # Evaluate by nearest neighbors.
    "KNN_ON": True,
    # Classes of that evaluation.
    "NUM_CLASSES_DOWNSTREAM": 400,
}
