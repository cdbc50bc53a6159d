"""A small network."""

import torch.nn as nn

from slowfast.models.batchnorm_helper import get_norm
from slowfast.models.build import MODEL_REGISTRY
from slowfast.utils import weight_init_helper as init_helper


@MODEL_REGISTRY.register()
class MyNet(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.norm_module = get_norm(cfg)
        self.num_pathways = 1
        self.conv = nn.Conv3d(3, 8, 3, stride=2, padding=1, bias=False)
        self.bn = self.norm_module(num_features=8, eps=1e-5, momentum=0.1)
        self.relu = nn.ReLU(inplace=True)
        self.projection = nn.Linear(8, cfg.MODEL.NUM_CLASSES, bias=True)
        self.act = nn.Softmax(dim=-1)
        init_helper.init_weights(self, cfg.MODEL.FC_INIT_STD, cfg.RESNET.ZERO_INIT_FINAL_BN)

    def forward(self, x, bboxes=None):
        x = self.relu(self.bn(self.conv(x[0])))
        x = self.projection(x.mean(dim=(2, 3, 4)))
        return x if self.training else self.act(x)
