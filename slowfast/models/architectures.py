"""Tables of the ResNet family: what an architecture's name stands for."""

# Temporal kernels of the stem and of stages 2 to 5, a pathway; a list is repeated over a stage's blocks.
_FLAT = (((1,),), ((1,),), ((1,),), ((1,),), ((1,),))
_INFLATED = (((5,),), ((3,),), ((3, 1),), ((3, 1),), ((1, 3),))
_SLOW = (((1,),), ((1,),), ((1,),), ((3,),), ((3,),))
_SLOWFAST = (((1,), (5,)), ((1,), (3,)), ((1,), (3,)), ((3,), (3,)), ((3,), (3,)))

TEMPORAL_KERNELS = {
    "2d": _FLAT,
    "c2d": _FLAT,
    "c2d_nopool": _FLAT,
    "slow_c2d": _FLAT,
    "i3d": _INFLATED,
    "i3d_nopool": _INFLATED,
    "slow_i3d": _INFLATED,
    "slow": _SLOW,
    "slowfast": _SLOWFAST,
}

# Temporal max pooling after stage 2, where there is any.
TEMPORAL_POOL = {"c2d": 2, "i3d": 2}
