"""Default settings of the models: MODEL, RESNET, SLOWFAST, NONLOCAL, BN, DETECTION."""

MODEL = {
    # Family of the temporal kernels, by name: 2d, c2d, i3d, slow, slowfast, ...
    "ARCH": "slowfast",
    # Which builder makes the model: ResNet, SlowFast, or one that a project registers.
    "MODEL_NAME": "SlowFast",
    # Adapter applied to the built clip model; set by projects, "" for none.
    "ADAPTER": "",
    # Number of classes, that is of scores a clip gets.
    "NUM_CLASSES": 400,
    # Loss of a clip, by name.
    "LOSS_FUNC": "cross_entropy",
    # Archs that read one stream of frames, besides those of the core's own tables; a project adds its archs
    # here.
    "SINGLE_PATHWAY_ARCH": ["2d", "c2d", "i3d", "slow", "x3d", "mvit", "maskmvit"],
    # Archs that read a slow and a fast stream of frames.
    "MULTI_PATHWAY_ARCH": ["slowfast"],
    # What the head makes of its logits in eval mode: softmax, sigmoid or none.
    "HEAD_ACT": "softmax",
    # How the head pools [space, time]: avg or max each.
    "FINAL_POOL": ["avg", "avg"],
    # Share of features dropped before the last linear layer, 0 to 1.
    "DROPOUT_RATE": 0.5,
    # Share of samples whose residual branches are dropped in training, 0 to under 1: in each block of the last stage;
    # less in earlier stages, rising evenly.
    "DROPCONNECT_RATE": 0.0,
    # Standard deviation of the normal distribution the last linear layer starts from.
    "FC_INIT_STD": 0.01,
    # How the numbers of a clip lie in memory: "contiguous" (channel by channel), with plain 3-D convolutions;
    # "channels_last" (channels of a position together), with convolutions computed in two dimensions where their
    # kernels allow; "auto": the faster one as measured, channels_last on the CPU. The results are the same.
    "MEMORY_FORMAT": "auto",
    # Recompute the activations of residual blocks in the backward pass instead of keeping them: less memory, more
    # time, same results.
    "ACT_CHECKPOINT": False,
    # Compile the model (torch.compile) for training and evaluation; the first batch of each shape takes minutes.
    # Whether it pays depends on the machine: tools/benchmark.py measures it.
    "COMPILE": False,
    # How thoroughly: "default" or "max-autotune-no-cudagraphs".
    "COMPILE_MODE": "default",
    # Modules not trained, by name in the state dict, * for anything, as in ['s1', 's1_fuse', 's4.pathway0_res2',
    # '*pathway0*']. Their parameters are fixed and their batch norms stay at their statistics.
    "FREEZE_STAGES": [],
    # Stop gradients before the last linear layer, so that it alone learns.
    "DETACH_FINAL_FC": False,
    # Keep every batch norm at its loaded statistics, whatever BN.NORM_TYPE says.
    "FROZEN_BN": False,
    # [frames, pixels] of the clips that the tables of positions of MViT and TimeSformer are made for; [] for
    # DATA.NUM_FRAMES and TRAIN_CROP_SIZE. Clips of another size get interpolated positions.
    "POSITIONS_FOR": [],
    # Send gradients between processes in half precision.
    "FP16_ALLREDUCE": False,
}

RESNET = {
    # Layers of the network: 18, 50 or 101.
    "DEPTH": 50,
    # Residual branch: basic_transform (two convolutions), bottleneck_transform (three) or x3d_transform (three, the
    # middle one in space and time).
    "TRANS_FUNC": "bottleneck_transform",
    # Channels of the stem and of one group; all widths grow with it.
    "WIDTH_PER_GROUP": 64,
    # Groups of the 1x3x3 convolution: 1 for ResNet, more for ResNeXt.
    "NUM_GROUPS": 1,
    # Put the spatial stride on the first 1x1 convolution of a bottleneck rather than on its 3x3.
    "STRIDE_1X1": False,
    # Let ReLUs overwrite their input.
    "INPLACE_RELU": True,
    # Spatial stride, [pathway, ...] for each of the 4 stages.
    "SPATIAL_STRIDES": [[1], [2], [2], [2]],
    # Spatial dilation, [pathway, ...] for each of the 4 stages.
    "SPATIAL_DILATIONS": [[1], [1], [1], [1]],
    # How many leading blocks have the stage's temporal kernel (later ones have 1), [pathway, ...] for each of
    # 4 stages.
    "NUM_BLOCK_TEMP_KERNEL": [[3], [4], [6], [3]],
    # Start the last batch norm of each block at scale 0, so that blocks begin as the identity.
    "ZERO_INIT_FINAL_BN": False,
    # The same for the weights of the last convolution of each block.
    "ZERO_INIT_FINAL_CONV": False,
    # First layers of the network, by name.
    "STEM_FUNC": "resnet_stem",
    # Pad the stem's max pool by one pixel on each side.
    "STEM_POOL_PAD": True,
}

SLOWFAST = {
    # Channels of the slow pathway over channels of the fast one.
    "BETA_INV": 8,
    # Frames of the fast pathway for one of the slow.
    "ALPHA": 8,
    # Output channels of a lateral connection over the fast channels it reads.
    "FUSION_CONV_CHANNEL_RATIO": 2,
    # Temporal kernel of a lateral connection, frames.
    "FUSION_KERNEL_SZ": 5,
    # Batch norm after a lateral convolution.
    "FUSION_BN": True,
    # ReLU after a lateral convolution.
    "FUSION_RELU": True,
    # Frames of the fast clip, from 0, that form the slow one; [] spreads NUM_FRAMES / ALPHA of them evenly.
    "SLOW_INDICES": [],
}

NONLOCAL = {
    # Blocks followed by a non-local block, counted from 0: [[block, ...] for each pathway] for each of 4
    # stages.
    "LOCATION": [[[]], [[]], [[]], [[]]],
    # Groups of frames that attend within themselves, [pathway, ...] for each of 4 stages; 1 for the whole
    # clip.
    "GROUP": [[1], [1], [1], [1]],
    # dot_product or softmax.
    "INSTANTIATION": "dot_product",
    # Max pool [time, height, width] before keys and values, for each pathway of each of 4 stages.
    "POOL": [[[1, 2, 2], [1, 2, 2]], [[1, 2, 2], [1, 2, 2]], [[1, 2, 2], [1, 2, 2]], [[1, 2, 2], [1, 2, 2]]],
    # Batch norm after the block's output convolution.
    "USE_BN": True,
    # Keys and values come from earlier frames of the same video; read by projects that carry them along.
    "PROGRESS": False,
}

BN = {
    # Kind of normalization: batchnorm, frozen_batchnorm, sync_batchnorm, sub_batchnorm, ...
    "NORM_TYPE": "batchnorm",
    # Weight of a new batch in the running statistics, 0 to 1.
    "MOMENTUM": 0.1,
    # Added to the variance before its root.
    "EPSILON": 1e-5,
    # Weight decay of the parameters of norm layers; SOLVER.WEIGHT_DECAY holds for the others.
    "WEIGHT_DECAY": 0.0,
    # Work the statistics out anew over many batches before each evaluation.
    "USE_PRECISE_STATS": False,
    # Batches for that.
    "NUM_BATCHES_PRECISE": 200,
    # sub_batchnorm: parts of a process's batch with statistics of their own; they divide it.
    "NUM_SPLITS": 1,
    # sync_batchnorm: neighboring GPUs of a host that share their statistics; 1 for all of a host.
    "NUM_SYNC_DEVICES": 1,
    # sync_batchnorm: share statistics among all GPUs of all hosts.
    "GLOBAL_SYNC": False,
}

DETECTION = {
    # Score boxes of people at a key frame rather than whole clips: model(inputs, boxes).
    "ENABLE": False,
    # Shift the boxes by half a pixel when features are cut out, which is exact.
    "ALIGNED": True,
    # Pixels of the input for one position of the last feature map; left out, as the network's strides make it.
    "SPATIAL_SCALE_FACTOR": 16,
    # Side of the grid of features cut out of a box, of which each channel's largest counts.
    "ROI_XFORM_RESOLUTION": 7,
}
