"""Share the reading of epochs between the tests of loaders."""

import pytest


@pytest.fixture(scope="session")
def read_epoch():
    """`read_epoch(loader, epoch, start=0)`: return the batches of an epoch from batch `start` on."""

    def read(loader, epoch, start=0):
        loader.batch_sampler.set_epoch(epoch, start)
        return list(loader)

    return read
