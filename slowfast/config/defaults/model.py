"""Defaults of the models: MODEL, RESNET, SLOWFAST, NONLOCAL, BN, DETECTION."""

# Model, loss and head.
MODEL = {
    # ResNet and SlowFast only: temporal kernels and strides, by name: 2d, c2d, c2d_nopool, i3d, i3d_nopool, slow,
    # slow_c2d, slow_i3d, csn, r2plus1d, or slowfast.
    "ARCH": "slowfast",
    # Model, by registered name: ResNet, SlowFast, X3D, RegNet, MViT, TimeSformer, MaskMViT (masked learning), or a
    # project's.
    "MODEL_NAME": "SlowFast",
    # Adapters applied to the model once it is built, by registered name, in order, joined by "+"; "" for none. Set by
    # projects.
    "ADAPTER": "",
    # Number of classes.
    "NUM_CLASSES": 400,
    # Loss, by registered name: cross_entropy, soft_cross_entropy, bce, bce_logit, multi_mse (MaskMViT), or a project's.
    "LOSS_FUNC": "cross_entropy",
    # Older files set it; a registered model says how many pathways it takes.
    "SINGLE_PATHWAY_ARCH": ["2d", "c2d", "i3d", "slow", "x3d", "mvit", "maskmvit"],
    # Values of MODEL.ARCH with two pathways, for registered models that do not say how many they take.
    "MULTI_PATHWAY_ARCH": ["slowfast"],
    # Activation of the head in eval mode: softmax, sigmoid or none.
    "HEAD_ACT": "softmax",
    # Pooling of the head, [space, time]: avg or max each.
    "FINAL_POOL": ["avg", "avg"],
    # Dropout rate before the last linear layer, 0 to 1.
    "DROPOUT_RATE": 0.5,
    # Drop-path rate in the last stage, 0 to under 1; it rises linearly over the earlier stages.
    "DROPCONNECT_RATE": 0.0,
    # Standard deviation of the initial weights of the last linear layer.
    "FC_INIT_STD": 0.01,
    # Memory format of activations: "contiguous", with nn.Conv3d; "channels_last", with 2D convolutions where the
    # kernels allow; "auto", the faster one, as measured before the first batch. The results are the same.
    "MEMORY_FORMAT": "auto",
    # Use activation checkpointing: recompute the activations of blocks in the backward pass, for less memory and more
    # time.
    "ACT_CHECKPOINT": False,
    # Compile the model (torch.compile). The first batch of each shape takes minutes; tools/benchmark.py measures the
    # gain, and so does "auto", before the first batch.
    "COMPILE": False,
    # Mode of torch.compile: "default", "reduce-overhead", "max-autotune" or "max-autotune-no-cudagraphs". On GPUs the
    # second and third use CUDA graphs (docs/gpu.md).
    "COMPILE_MODE": "default",
    # Modules to freeze, by name in the state dict with * as a wildcard, such as ['s1', 's1_fuse', 's4.pathway0_res2',
    # '*pathway0*']. Their parameters are fixed and their batch norms keep their statistics.
    "FREEZE_STAGES": [],
    # Linear probe: train the last linear layer alone. Running statistics of batch norms still move.
    "DETACH_FINAL_FC": False,
    # Freeze the statistics of every batch norm, whatever BN.NORM_TYPE says.
    "FROZEN_BN": False,
    # MViT and TimeSformer: [frames, pixels] of the position embeddings; [] for DATA.NUM_FRAMES and TRAIN_CROP_SIZE.
    # Clips of another size get interpolated ones.
    "POSITIONS_FOR": [],
    # All-reduce gradients in half precision.
    "FP16_ALLREDUCE": False,
}

# Residual stages of ResNet, SlowFast and X3D. Tables hold a list for each of the 4 stages, with an entry for each
# pathway.
RESNET = {
    # Layers: 18, 50 or 101.
    "DEPTH": 50,
    # Residual block: basic_transform (two convolutions), bottleneck_transform (three), x3d_transform (three, with a
    # 3x3x3 in the middle), csn_transform (three, with a depthwise 3x3x3 there) or r2plus1d_transform (four, with a
    # 3x1x1 and a 1x3x3 there).
    "TRANS_FUNC": "bottleneck_transform",
    # Channels of the stem, and of a group; all widths are multiples.
    "WIDTH_PER_GROUP": 64,
    # Groups of the 1x3x3 convolution: 1 for ResNet, more for ResNeXt.
    "NUM_GROUPS": 1,
    # Put the spatial stride on the first 1x1 convolution of a bottleneck instead of on its 3x3.
    "STRIDE_1X1": False,
    # Use in-place ReLUs.
    "INPLACE_RELU": True,
    # Spatial strides.
    "SPATIAL_STRIDES": [[1], [2], [2], [2]],
    # Spatial dilations.
    "SPATIAL_DILATIONS": [[1], [1], [1], [1]],
    # Number of leading blocks with the stage's temporal kernel; later blocks have 1.
    "NUM_BLOCK_TEMP_KERNEL": [[3], [4], [6], [3]],
    # Initialize the weight of each block's last batch norm to 0, so that blocks start as the identity.
    "ZERO_INIT_FINAL_BN": False,
    # Initialize the weights of each block's last convolution to 0.
    "ZERO_INIT_FINAL_CONV": False,
    # Stem: resnet_stem, the only one; PGT's files have the key.
    "STEM_FUNC": "resnet_stem",
    # Pad the stem's max pooling by one pixel on each side.
    "STEM_POOL_PAD": True,
}

# SlowFast: two pathways and their lateral connections.
SLOWFAST = {
    # Channel ratio, slow to fast.
    "BETA_INV": 8,
    # Frame ratio, fast to slow.
    "ALPHA": 8,
    # Output channels of a lateral convolution over its input channels.
    "FUSION_CONV_CHANNEL_RATIO": 2,
    # Temporal kernel of a lateral convolution, frames.
    "FUSION_KERNEL_SZ": 5,
    # Add a batch norm after each lateral convolution.
    "FUSION_BN": True,
    # Add a ReLU after each lateral convolution.
    "FUSION_RELU": True,
    # Frames of the fast pathway, from 0, that form the slow pathway; [] for NUM_FRAMES / ALPHA evenly spaced ones.
    "SLOW_INDICES": [],
}

# Non-local blocks of ResNet, SlowFast and X3D. Tables hold a list for each of the 4 stages, with an entry for each
# pathway.
NONLOCAL = {
    # Blocks, from 0, that a non-local block follows: a list for each pathway.
    "LOCATION": [[[]], [[]], [[]], [[]]],
    # Groups of frames that attend within themselves; 1 for the whole clip.
    "GROUP": [[1], [1], [1], [1]],
    # Attention: dot_product or softmax.
    "INSTANTIATION": "dot_product",
    # Max pooling [time, height, width] before keys and values.
    "POOL": [[[1, 2, 2], [1, 2, 2]], [[1, 2, 2], [1, 2, 2]], [[1, 2, 2], [1, 2, 2]], [[1, 2, 2], [1, 2, 2]]],
    # Add a batch norm after the output convolution.
    "USE_BN": True,
    # Take keys and values from earlier frames of the same video too; read by projects with memory.
    "PROGRESS": False,
}

# Batch normalization.
BN = {
    # Norm: batchnorm, frozen_batchnorm, sync_batchnorm (sync_batchnorm_apex is read as it), sub_batchnorm or none.
    "NORM_TYPE": "batchnorm",
    # Momentum of the running statistics, as in PyTorch: weight of the new batch, 0 to 1.
    "MOMENTUM": 0.1,
    # Epsilon added to the variance.
    "EPSILON": 1e-5,
    # Weight decay of norm layers; SOLVER.WEIGHT_DECAY holds for the others.
    "WEIGHT_DECAY": 0.0,
    # Recompute the running statistics over many batches before each validation (precise BN).
    "USE_PRECISE_STATS": False,
    # Batches of precise BN.
    "NUM_BATCHES_PRECISE": 200,
    # sub_batchnorm: parts of a process's batch, each with statistics of its own; a divisor of the batch.
    "NUM_SPLITS": 1,
    # sync_batchnorm: neighboring GPUs of a host that share statistics; 1 for all of a host.
    "NUM_SYNC_DEVICES": 1,
    # sync_batchnorm: share statistics among all GPUs of all hosts.
    "GLOBAL_SYNC": False,
}

# Action detection: scores of boxes at a key frame.
DETECTION = {
    # Score boxes at a key frame instead of whole clips: model(inputs, boxes).
    "ENABLE": False,
    # Use RoIAlign's half-pixel shift (aligned=True).
    "ALIGNED": True,
    # Spatial stride of the features, pixels; derived from the model if left out.
    "SPATIAL_SCALE_FACTOR": 16,
    # Side of RoIAlign's output grid.
    "ROI_XFORM_RESOLUTION": 7,
}
