# mypy: disable-error-code="no-untyped-def"
"""Triton kernels that find the nearest classes: as a threshold for the loss, or as ids.

Shapes and tiles as in `seg.kernels.triton.loss`; K neighbours. Both stream tiles of classes and take from each tile the best value of every
pixel, round by round, for as long as it beats the worst value that some pixel keeps. Late tiles mostly enter nowhere and cost one look.
"""

import triton
import triton.language as tl

from seg.kernels.triton.common import distances, load_vectors, pixel_block, product, split_half


@triton.jit
def replace_worst(best, worst, value):
    """Where `value` (P,) goes in `best` (P, slots): a mask with the first of its worst entries, if that is beaten."""
    slots = tl.arange(0, best.shape[1])[None, :]
    place = tl.min(tl.where(best == worst[:, None], slots, best.shape[1]), 1)
    return (slots == place[:, None]) & (value > worst)[:, None]


@triton.jit
def threshold_kernel(
    pixels, labels, blocks, class_high, class_low, columns, bias, thresholds,
    num_pixels, num_classes, column_step, blocks_per_image, ignore_index, num_neighbours,
    pixel_image, pixel_dim, pixel_pixel, label_image, label_pixel,
    pixel_unit, logit_unit, sharpness, margin, relative_margin,
    BOUNDED: tl.constexpr, PLAIN: tl.constexpr, DIM: tl.constexpr, DIM_PAD: tl.constexpr,
    SLOTS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """The logit halfway between the K-th and the next best class of each pixel of the visited blocks.

    Infinity where these two are nearer to each other than the margin: rounding could exchange them, or they are equal.

    Args:
        thresholds: (R,) result.
        num_neighbours: K ≤ SLOTS.
        margin, relative_margin: in bits, and in units of the logit.
        The others as in `pixel_kernel`.
    """
    block = tl.load(blocks + tl.program_id(0)).to(tl.int64)
    image, pixel, valid, _ = pixel_block(block, labels, label_image, label_pixel, num_pixels, blocks_per_image, ignore_index, BLOCK_P)
    starts = pixels + image * pixel_image + pixel * pixel_pixel
    if BOUNDED:
        high, low = split_half(load_vectors(starts, pixel_dim, valid, DIM, DIM_PAD) * pixel_unit)
    else:
        inside = pixels + image * pixel_image + tl.minimum(pixel, num_pixels - 1) * pixel_pixel
    slots = tl.arange(0, SLOTS)[None, :] + tl.zeros([BLOCK_P, 1], tl.int32)
    best = tl.where(slots < num_neighbours, float("-inf"), float("inf"))  # of the slots that are used
    worst = tl.min(best, 1)
    runner_up = worst
    for start in range(0, num_classes, BLOCK_C):
        columns_here = tl.arange(0, BLOCK_C)
        classes = start + columns_here
        extra = tl.load(bias + classes)[None, :]
        if BOUNDED:
            tile = classes[:, None] * DIM_PAD + tl.arange(0, DIM_PAD)[None, :]
            logits = product(high, low, tl.load(class_high + tile).T, tl.load(class_low + tile).T) * logit_unit + extra
        else:
            distance = distances(inside, pixel_dim, columns + classes, column_step, PLAIN, DIM)
            logits = extra - sharpness * distance
        # the place in the tile replaces the last bits: no two equal values in a tile, so each can be taken out alone
        keys = (logits.to(tl.int32, bitcast=True) & -BLOCK_C) | columns_here[None, :]
        logits = keys.to(tl.float32, bitcast=True)
        value = tl.max(logits, 1)
        while tl.max((value > worst).to(tl.int32), 0) > 0:
            runner_up = tl.maximum(runner_up, tl.minimum(value, worst))
            best = tl.where(replace_worst(best, worst, value), value[:, None], best)
            worst = tl.min(best, 1)
            logits = tl.where(logits == value[:, None], float("-inf"), logits)
            value = tl.max(logits, 1)
        runner_up = tl.maximum(runner_up, value)
    clear = worst - runner_up > margin + relative_margin * tl.abs(worst)
    # the middle: the loss computes the logits again, and may round them otherwise
    threshold = tl.where(clear, (worst + runner_up) * 0.5, float("inf"))
    record = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    # not infinity, by which the host finds the ties
    tl.store(thresholds + record, tl.where(valid, threshold, 0.0))


@triton.jit
def nearest_kernel(
    pixels, class_high, class_low, bias, ids,
    num_pixels, num_classes, blocks_per_image, pixel_image, pixel_dim, pixel_pixel,
    COUNT: tl.constexpr, SLOTS: tl.constexpr,
    DIM: tl.constexpr, DIM_PAD: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Ids of the COUNT classes with the largest x·μ + bias, in no order; of equals the lower id enters first.

    Args:
        class_high, class_low: (C, D) float16, μ in units of the longest, in two parts.
        bias: (C,) in the same unit; hugely negative for padding.
        ids: (N·S, COUNT) int64 result; 0 where nothing can be compared.
    """
    block = tl.program_id(0).to(tl.int64)
    image = block // blocks_per_image
    pixel = (block % blocks_per_image) * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = pixel < num_pixels
    x = load_vectors(pixels + image * pixel_image + pixel * pixel_pixel, pixel_dim, inside, DIM, DIM_PAD)
    reach = tl.max(tl.abs(x), 1)
    reach = tl.where(reach > 1e-37, reach, 1.0)  # each pixel has its own unit: one large pixel costs the others no digits
    high, low = split_half(x * (1 / reach)[:, None])
    slots = tl.arange(0, SLOTS)[None, :] + tl.zeros([BLOCK_P, 1], tl.int32)
    best = tl.where(slots < COUNT, float("-inf"), float("inf"))
    found = tl.zeros([BLOCK_P, SLOTS], tl.int32)
    worst = tl.min(best, 1)
    for start in range(0, num_classes, BLOCK_C):
        classes = start + tl.arange(0, BLOCK_C)
        tile = classes[:, None] * DIM_PAD + tl.arange(0, DIM_PAD)[None, :]
        scores = product(high, low, tl.load(class_high + tile).T, tl.load(class_low + tile).T) * reach[:, None]
        scores += tl.load(bias + classes)[None, :]
        value = tl.max(scores, 1)
        while tl.max((value > worst).to(tl.int32), 0) > 0:
            class_id = tl.min(tl.where(scores == value[:, None], classes[None, :], num_classes), 1)
            enters = replace_worst(best, worst, value)
            best = tl.where(enters, value[:, None], best)
            found = tl.where(enters, class_id[:, None], found)
            worst = tl.min(best, 1)
            scores = tl.where(classes[None, :] == class_id[:, None], float("-inf"), scores)
            value = tl.max(scores, 1)
    places = ids + (image * num_pixels + pixel)[:, None] * COUNT + slots
    tl.store(places, found.to(tl.int64), mask=inside[:, None] & (slots < COUNT))
