"""Steps of the embedded network on a GPU, for thousands of boxes at a time, in double precision as on the CPU."""

from __future__ import annotations

import numpy as np
import torch

from lipcert.certificate.boxes import Bounds
from lipcert.methods.implicit.embedded import CLOSE, NEWTON_STEPS, ROOM, STEPS, Rests

LOOK = 5
"""Steps after which it is seen whether there shall be more: each look waits for the device."""


@torch.no_grad()
def narrowed_on(device: torch.device, rests: Rests, u: np.ndarray, reach: np.ndarray, gain: float) -> Bounds:
    """Boxes of r, as embedded finds them; of activations that nowhere decrease."""

    def on(values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float64, device=device)

    phi, own = rests.layer.activation.torch, on(rests.own)
    signed, size, inverse = on(rests.others.T), on(np.abs(rests.others).T), on(rests.inverse.T)
    given, width = on(u), on(reach)

    def values_of(r: torch.Tensor) -> torch.Tensor:
        v = r
        for _ in range(NEWTON_STEPS):
            with torch.enable_grad():
                x = v.detach().requires_grad_()
                value = phi(x)
                (slope,) = torch.autograd.grad(value.sum(), x)
            before, v = v, (r + own * (value.detach() - slope * v)) / (1 - own * slope)
            if bool((v - before).abs().max() <= 1e-14 * v.abs().max()):
                break
        return torch.as_tensor(phi(v))

    r = given
    close = CLOSE * float(np.min(reach, initial=np.inf))
    for step in range(STEPS):
        before, r = r, values_of(r) @ signed + given
        if step % LOOK == 0 and float((r - before).abs().max()) <= close:
            break
    lack = (values_of(r) @ signed + given - r).abs()
    radius = (1 + ROOM) * (lack + width) @ inverse
    low, high = r - radius, r + radius
    for step in range(STEPS):
        least, most = values_of(low), values_of(high)
        middle, around = (least + most) / 2 @ signed + given, (most - least) / 2 @ size + width
        before, (low, high) = high - low, (middle - around, middle + around)
        if step % LOOK == 0 and not float(before.sum()) > (1 + gain) * float((high - low).sum()):
            break
    return low.cpu().numpy(), high.cpu().numpy()
