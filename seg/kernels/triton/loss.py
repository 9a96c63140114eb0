# mypy: disable-error-code="no-untyped-def"
"""Triton kernels of the embedding loss: one for the pixels, one for the classes.

Shapes: N images, S pixels of an image, C classes, D embedding size, R records; tiles of BLOCK_P pixels and BLOCK_C classes. Classes are
padded to a multiple of BLOCK_C and D to DIM_PAD: zeros, which no result uses. Only blocks with a valid pixel are ever visited; a
record is a pixel of such a block, in the padded form the class kernel reads.

Logits are in bits (base 2). They come in two ways:
- BOUNDED, by products: logit = 2·sharpness·x·μ − sharpness·|μ|² + shift. The host has made sure that all of them lie where exp2 neither
  overflows nor underflows, so there is no running maximum. A product of float32 is three float16 ones, (high + low)·(high + low) without
  low·low, exact to 2⁻²² of the largest product.
- otherwise by differences: logit = −sharpness·distance, with a running maximum; right for any norm and temperature and for the plain
  distance, and several times the work.
The target stays out of every sum: late in training all else is smaller than the rounding of its exponential.
"""

import triton
import triton.language as tl

from seg.kernels.triton.common import distances, load_vectors, pixel_block, product, split_half, split_wide, stretched

LOG_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def pixel_kernel(
    pixels, labels, blocks, class_high, class_low, value_high, value_low, vectors, columns, bias, thresholds,
    class_weights, losses, gradient, targets, other_sums, shares, peaks, half_high, half_low, share_high, share_low, copies,
    num_pixels, num_classes, column_step, record_step, blocks_per_image, ignore_index,
    pixel_image, pixel_dim, pixel_pixel, label_image, label_pixel, gradient_image, gradient_dim, gradient_pixel,
    pixel_unit, logit_unit, sharpness, gradient_unit,
    BOUNDED: tl.constexpr, PLAIN: tl.constexpr, SELECT: tl.constexpr, GRADIENT: tl.constexpr, WEIGHTED: tl.constexpr,
    DIM: tl.constexpr, DIM_PAD: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Loss and pixel gradient of a block of pixels, streaming the classes: attention whose values are the class embeddings.

    Args:
        blocks: numbers of the blocks to visit, one per program.
        class_high, class_low: (C, D) float16, μ in units of the longest, in two parts. BOUNDED only.
        value_high, value_low: (C, D) bfloat16, μ in two parts. BOUNDED only.
        vectors, columns: (C, D) and (D, C) float32.
        bias: (C,) what a logit has besides product or distance; hugely negative for padding.
        thresholds: (R,) with SELECT only classes with a logit of at least this take part besides the target; infinity: as if ignored.
        class_weights: (C,) float32, a pixel counts with the weight of its target. WEIGHTED only.
        losses: (blocks,) sum over the block's pixels, in nats.
        gradient: as the pixels, in float32, and zero where nothing is written.
        targets, other_sums, shares, peaks: (R,) target or −1; Σ exp2(logit − peak) without the target; weight / that sum with the target,
            or 0 for pixels that are left out; peak, where not BOUNDED.
        half_high, half_low, share_high, share_low: (R, D) float16 x·pixel_unit and bfloat16 x·share, in two parts. BOUNDED only.
        copies: (D, R) float32 x. Where not BOUNDED only.
        num_classes, column_step: multiple of BLOCK_C, and from one row of `columns` to the next.
        pixel_unit, logit_unit: factor that brings pixels into [−1, 1], and that turns products into logits.
        sharpness: in bits.
        gradient_unit: what Σ probability · stretch · (μ − x) is multiplied with.
    """
    block = tl.load(blocks + tl.program_id(0)).to(tl.int64)
    image, pixel, valid, target = pixel_block(block, labels, label_image, label_pixel, num_pixels, blocks_per_image, ignore_index, BLOCK_P)
    record = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    if SELECT:
        # infinity marks a tie, which the host computes by another way
        threshold = tl.load(thresholds + record)
        valid = valid & (threshold < float("inf"))
        target = tl.where(valid, target, -1)
    first_target = tl.min(tl.where(valid, target, num_classes), 0)
    last_target = tl.max(target, 0)
    starts = pixels + image * pixel_image + pixel * pixel_pixel
    x = load_vectors(starts, pixel_dim, valid, DIM, DIM_PAD)
    if BOUNDED:
        peak = tl.zeros([BLOCK_P], tl.float32)
        high, low = split_half(x * pixel_unit)
    else:
        inside = pixels + image * pixel_image + tl.minimum(pixel, num_pixels - 1) * pixel_pixel  # ignored pixels are read too, and not used
        offset = load_vectors(vectors + target * DIM_PAD, 1, valid, DIM, DIM_PAD) - x
        peak = tl.sum(offset * offset, 1)
        peak = -sharpness * (tl.sqrt(peak) if PLAIN else peak)  # the target's logit
    others = tl.zeros([BLOCK_P], tl.float32)
    weights = tl.zeros([BLOCK_P], tl.float32)
    pull = tl.zeros([BLOCK_P, DIM_PAD], tl.float32)

    for start in range(0, num_classes, BLOCK_C):
        classes = start + tl.arange(0, BLOCK_C)
        tile = classes[:, None] * DIM_PAD + tl.arange(0, DIM_PAD)[None, :]
        extra = tl.load(bias + classes)[None, :]
        if BOUNDED:
            logits = product(high, low, tl.load(class_high + tile).T, tl.load(class_low + tile).T) * logit_unit + extra
            parts = tl.exp2(logits)
        else:
            distance = distances(inside, pixel_dim, columns + classes, column_step, PLAIN, DIM)
            logits = extra - sharpness * distance
            higher = tl.maximum(peak, tl.max(logits, 1))
            shrink = tl.exp2(peak - higher)
            peak = higher
            others *= shrink
            weights *= shrink
            pull *= shrink[:, None]
            parts = tl.exp2(logits - peak[:, None])
        if SELECT:
            parts = tl.where(logits >= threshold[:, None], parts, 0.0)
        if (start <= last_target) & (start + BLOCK_C > first_target):  # most tiles hold no target of the block
            parts = tl.where(classes[None, :] == target[:, None], 0.0, parts)
        others += tl.sum(parts, 1)
        if GRADIENT:
            if BOUNDED:
                parts_high, parts_low = split_wide(parts)
                pull += product(parts_high, parts_low, tl.load(value_high + tile), tl.load(value_low + tile))
            else:
                parts = stretched(parts, distance, PLAIN)
                weights += tl.sum(parts, 1)
                # TF32, the default, would leave three digits
                pull = tl.dot(parts, tl.load(vectors + tile), pull, input_precision="ieee")

    # everything about the pixels again, from a load that is not reused: registers are scarcer in the loop than instructions are here
    block = tl.load(blocks + tl.program_id(0), volatile=True).to(tl.int64)
    image, pixel, _, _ = pixel_block(block, labels, label_image, label_pixel, num_pixels, blocks_per_image, ignore_index, BLOCK_P)
    x = load_vectors(pixels + image * pixel_image + pixel * pixel_pixel, pixel_dim, valid, DIM, DIM_PAD)
    own = load_vectors(vectors + target * DIM_PAD, 1, valid, DIM, DIM_PAD)
    offset = own - x
    own_distance = tl.sum(offset * offset, 1)
    if PLAIN:
        own_distance = tl.sqrt(own_distance)
    # in float32 from the vectors themselves, not from the split products of the loop
    own_logit = -sharpness * own_distance
    if BOUNDED:
        own_logit = 2 * sharpness * tl.sum(x * own, 1) + tl.load(bias + target, mask=valid, other=0.0)
    own_part = tl.exp2(own_logit - peak)
    total = others + own_part
    # log(1 + others / own part) = 2 artanh(others / (total + own part)), by its series where that argument is below 1/3
    ratio = others / (total + own_part)
    series = tl.full([BLOCK_P], 1 / 15, tl.float32)
    for step in tl.static_range(7):
        series = series * ratio * ratio + 1 / (13 - 2 * step)
    loss = tl.where(others < own_part, 2 * ratio * series, (peak + tl.log2(total) - own_logit) * LOG_2)
    loss = tl.where(valid, loss, 0.0)
    if WEIGHTED:
        weight = tl.load(class_weights + target, mask=valid, other=0.0)
        loss *= weight
    tl.store(losses + tl.program_id(0), tl.sum(loss, 0))
    if GRADIENT:
        share = tl.where(valid, 1 / total, 0.0)
        if WEIGHTED:
            share *= weight
        if BOUNDED:
            pull -= others[:, None] * own
        else:
            pull -= weights[:, None] * x + stretched(others, own_distance, PLAIN)[:, None] * offset
        dim = tl.arange(0, DIM_PAD).to(tl.int64)
        places = gradient + image * gradient_image + pixel[:, None] * gradient_pixel + dim[None, :] * gradient_dim
        tl.store(places, pull * (gradient_unit * share)[:, None], mask=valid[:, None] & (dim < DIM)[None, :])
        tl.store(targets + record, target)
        tl.store(other_sums + record, others)
        tl.store(shares + record, share)
        if BOUNDED:
            rows = record[:, None] * DIM_PAD + tl.arange(0, DIM_PAD)[None, :]
            high, low = split_half(x * pixel_unit)
            tl.store(half_high + rows, high)
            tl.store(half_low + rows, low)
            # the class kernel finds the sum of its slopes in a spare column
            high, low = split_wide(tl.where(dim[None, :] == DIM, 1.0, x) * share[:, None])
            tl.store(share_high + rows, high)
            tl.store(share_low + rows, low)
        else:
            tl.store(peaks + record, tl.where(valid, peak, 0.0))  # an ignored pixel may hold anything
            tl.store(copies + dim[None, :] * record_step + record[:, None], x)


@triton.jit
def class_kernel(
    class_high, class_low, columns, bias, thresholds, targets, other_sums, shares, peaks,
    half_high, half_low, share_high, share_low, copies, pulls, weights_out,
    num_classes, column_step, num_records, record_step, records_per_split, logit_unit, sharpness,
    BOUNDED: tl.constexpr, PLAIN: tl.constexpr, SELECT: tl.constexpr,
    DIM: tl.constexpr, DIM_PAD: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Adds to the class sums of a tile of classes what a share (split) of the records gives: no atomics, the same result every time.

    Args:
        pulls: (splits, C, D) Σ slope · stretch · x over the split's records.
        weights_out: (splits, C) Σ slope · stretch.
        num_records, records_per_split: multiples of BLOCK_P.
        The others as in `pixel_kernel`, which made the records.
    """
    split = tl.program_id(1)
    first_class = tl.program_id(0) * BLOCK_C
    classes = first_class + tl.arange(0, BLOCK_C)
    dim = tl.arange(0, DIM_PAD)
    tile = classes[:, None] * DIM_PAD + dim[None, :]
    extra = tl.load(bias + classes)[:, None]
    if BOUNDED:
        high, low = tl.load(class_high + tile), tl.load(class_low + tile)
    pull = tl.zeros([BLOCK_C, DIM_PAD], tl.float32)
    weights = tl.zeros([BLOCK_C], tl.float32)
    for start in range(split * records_per_split, tl.minimum((split + 1) * records_per_split, num_records), BLOCK_P):
        record = start + tl.arange(0, BLOCK_P)
        rows = record[:, None] * DIM_PAD + dim[None, :]
        target = tl.load(targets + record)
        others = tl.load(other_sums + record)
        if BOUNDED:
            logits = product(high, low, tl.load(half_high + rows).T, tl.load(half_low + rows).T) * logit_unit + extra
            slopes = tl.exp2(logits)
        else:
            distance = distances(columns + classes, column_step, copies + record, record_step, PLAIN, DIM)
            logits = extra - sharpness * distance
            slopes = tl.exp2(logits - tl.load(peaks + record)[None, :])
        if SELECT:
            slopes = tl.where(logits >= tl.load(thresholds + record)[None, :], slopes, 0.0)
        if (tl.max(target, 0) >= first_class) & (tl.min(target, 0) < first_class + BLOCK_C):
            slopes = tl.where(classes[:, None] == target[None, :], -others[None, :], slopes)
        if BOUNDED:
            slopes_high, slopes_low = split_wide(slopes)
            pull += product(slopes_high, slopes_low, tl.load(share_high + rows), tl.load(share_low + rows))
            # with padding the sum stands in a spare column, see below
            if DIM == DIM_PAD:
                weights += tl.sum(slopes * tl.load(shares + record)[None, :], 1)
        else:
            slopes = stretched(slopes * tl.load(shares + record)[None, :], distance, PLAIN)
            weights += tl.sum(slopes, 1)
            x = tl.load(copies + dim[None, :] * record_step + record[:, None])
            pull = tl.dot(slopes, x, pull, input_precision="ieee")
    if BOUNDED and DIM < DIM_PAD:
        weights = tl.sum(tl.where(dim[None, :] == DIM, pull, 0.0), 1)
    pulls += split.to(tl.int64) * num_classes * DIM_PAD
    weights_out += split.to(tl.int64) * num_classes
    # added to what earlier chunks of records left; no other program has this place
    tl.store(pulls + tile, tl.load(pulls + tile) + pull)
    tl.store(weights_out + classes, tl.load(weights_out + classes) + weights)
