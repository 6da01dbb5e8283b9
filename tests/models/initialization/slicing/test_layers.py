import torch
import torch.nn.functional as F
from torch import nn

from proteus.models.initialization.slicing.layers import Reader
from proteus.models.initialization.slicing.streams import StreamPair, Streams


def test_layers_read_what_can_be_predicted_of_directions_that_the_student_lacks() -> None:
    torch.manual_seed(0)
    student = torch.randn(4, 9, 6)
    read = F.layer_norm(student, (6,), eps=0)
    # The teacher's last six entries are outside the basis, and follow from the first.
    teacher = torch.cat([3 * read, -3 * read], dim=-1)
    streams = Streams([StreamPair(student, teacher)], basis=torch.eye(6, 12), prefix=1)
    theirs = nn.LayerNorm(12)
    nn.init.normal_(theirs.weight)
    nn.init.normal_(theirs.bias)
    weight, bias = torch.randn(5, 12), torch.randn(5)
    with torch.no_grad():
        found = F.linear(read, *Reader(nn.LayerNorm(6), theirs, streams).sliced(weight, bias))
        wanted = F.linear(theirs(teacher), weight, bias)
        assert (found - wanted).square().sum() < 1e-4 * (wanted - wanted.mean((0, 1))).square().sum()
        without = F.linear(read, *Reader(nn.LayerNorm(6), theirs, streams).sliced(weight, None))
        torch.testing.assert_close(found - without, bias.expand_as(found))


def test_directions_of_little_variance_are_not_amplified() -> None:
    """What follows from a thousandth of the variance is not read from there by weights of a thousand."""
    torch.manual_seed(0)
    student = torch.randn(16, 9, 6)
    student[..., 5] *= 1e-3
    teacher = torch.cat([student[..., :5], 1e3 * student[..., 5:]], dim=-1)
    streams = Streams([StreamPair(student, teacher)], basis=torch.eye(6), prefix=1)
    with torch.no_grad():
        weight, _ = Reader(nn.LayerNorm(6), nn.LayerNorm(6), streams).sliced(torch.eye(6), None)
    assert weight[:5, :5].diagonal().min() > 0.5
    assert weight[:, 5].abs().max() < 2
