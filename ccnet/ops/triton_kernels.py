"""Triton kernels of criss-cross attention along one axis; `ops/triton.py` launches them.

Along one axis, a tensor (B, *spatial, channels) is viewed as (outer, length, inner, channels). A
line is the `length` pixels with the same index in outer and inner; the distance between its pixels
is `inner` pixels. Products accumulate in float32. Scores, statistics and delta are float32.
DESIGN.md derives the mathematics.

In comments, a block has ROWS queries, KEYS keys and CHANNELS value channels; DEPTH is the number D
of query and key channels, rounded up. Numbers past the end of a line or past the last channel are
loaded as 0.
"""

import triton
import triton.language as tl

# arguments for which Triton compiles one binary that serves all values
SIZES = ["length", "inner", "blocks", "groups", "group_chunks", "chunks", "pixels"]


@triton.jit
def line_pixels(line, position, length, inner):
    """Indices of the pixels at these positions of a line, in 64 bits for maps of 2³¹ numbers."""
    first = (line // inner).to(tl.int64) * length * inner + line % inner
    return first + position.to(tl.int64) * inner


@triton.jit
def load(tensor, pixel, inside, pitch, start, channels: tl.constexpr, BLOCK: tl.constexpr):
    """BLOCK channels of the pixels, beginning with channel `start`: [pixels, BLOCK]."""
    channel = start + tl.arange(0, BLOCK)
    mask = inside[:, None] & (channel < channels)[None, :]
    return tl.load(tensor + pixel[:, None] * pitch + channel[None, :], mask, other=0.0)


@triton.jit
def store(tensor, pixel, inside, start, tile, channels: tl.constexpr, BLOCK: tl.constexpr):
    channel = start + tl.arange(0, BLOCK)
    mask = inside[:, None] & (channel < channels)[None, :]
    pointer = tensor + pixel[:, None] * channels + channel[None, :]
    tl.store(pointer, tile.to(tensor.dtype.element_ty), mask)


@triton.jit
def masked_scores(left, right, query, key, length, FIRST: tl.constexpr, PRECISION: tl.constexpr):
    """left · right; −∞ past the last key and, except on the first axis, at the pixel itself."""
    scores = tl.dot(left, tl.trans(right), input_precision=PRECISION)
    counts = key < length
    if not FIRST:
        counts = counts & (key != query)
    return tl.where(counts, scores, float("-inf"))


@triton.jit
def with_scores(peak, total, scores):
    """Peak and total of the softmax rows after adding these scores, [ROWS, KEYS]."""
    higher = tl.maximum(peak, tl.max(scores, 1))
    weights = tl.exp(scores - higher[:, None])
    return higher, total * tl.exp(peak - higher) + tl.sum(weights, 1)


@triton.jit(do_not_specialize=SIZES)
def forward_axis(
    query,
    key,
    value,
    out,
    peak,
    total,
    new_peak,
    new_total,
    length,
    inner,
    query_pitch,
    key_pitch,
    value_pitch,
    blocks,
    groups,
    group_chunks,
    D: tl.constexpr,
    C: tl.constexpr,
    FIRST: tl.constexpr,
    WHOLE: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    DEPTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Attend along one axis and merge the result with that of earlier axes in out, peak and total.

    A program computes ROWS pixels of a line and a group of value channels. WHOLE: all keys of the
    line are one block, so that its weights are computed once for all channels. The new statistics
    are written to other buffers, because programs of other groups still read the old ones.
    """
    program = tl.program_id(0)
    group = program % groups
    block = program // groups % blocks
    line = program // groups // blocks
    row = block * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, KEYS)
    inside = row < length
    pixel = line_pixels(line, row, length, inner)
    q = load(query, pixel, inside, query_pitch, 0, D, DEPTH)  # [ROWS, DEPTH]
    if FIRST:
        old_peak = tl.full([ROWS], float("-inf"), tl.float32)
        old_total = tl.zeros([ROWS], tl.float32)
    else:
        old_peak = tl.load(peak + pixel, inside, other=0.0)
        old_total = tl.load(total + pixel, inside, other=1.0)

    m, z = old_peak, old_total
    if WHOLE:
        key_pixel = line_pixels(line, column, length, inner)
        k = load(key, key_pixel, column < length, key_pitch, 0, D, DEPTH)  # [KEYS, DEPTH]
        scores = masked_scores(q, k, row[:, None], column[None, :], length, FIRST, PRECISION)
        m, z = with_scores(m, z, scores)
        weights = (tl.exp(scores - m[:, None]) * (1 / z)[:, None]).to(value.dtype.element_ty)
    else:
        for start in range(0, length, KEYS):
            at = start + column
            key_pixel = line_pixels(line, at, length, inner)
            k = load(key, key_pixel, at < length, key_pitch, 0, D, DEPTH)
            scores = masked_scores(q, k, row[:, None], at[None, :], length, FIRST, PRECISION)
            m, z = with_scores(m, z, scores)
    share = 1 / z
    kept = old_total * tl.exp(old_peak - m) * share
    tl.store(new_peak + pixel, m, inside & (group == 0))
    tl.store(new_total + pixel, z, inside & (group == 0))

    for chunk in range(group * group_chunks, min((group + 1) * group_chunks, tl.cdiv(C, CHANNELS))):
        channel = chunk * CHANNELS  # in this form the compiler knows its alignment
        if WHOLE:
            v = load(value, key_pixel, column < length, value_pitch, channel, C, CHANNELS)
            context = tl.dot(weights, v, input_precision=PRECISION)  # [ROWS, CHANNELS]
        else:
            context = tl.zeros([ROWS, CHANNELS], tl.float32)
            for start in range(0, length, KEYS):
                at = start + column
                key_pixel = line_pixels(line, at, length, inner)
                k = load(key, key_pixel, at < length, key_pitch, 0, D, DEPTH)
                v = load(value, key_pixel, at < length, value_pitch, channel, C, CHANNELS)
                scores = masked_scores(q, k, row[:, None], at[None, :], length, FIRST, PRECISION)
                weights = (tl.exp(scores - m[:, None]) * share[:, None]).to(v.dtype)
                context = tl.dot(weights, v, context, input_precision=PRECISION)
        if not FIRST:
            earlier = load(out, pixel, inside, C, channel, C, CHANNELS)
            context += earlier * kept[:, None]
        store(out, pixel, inside, channel, context, C, CHANNELS)


@triton.jit(do_not_specialize=SIZES)
def backward_line(
    grad,
    query,
    key,
    value,
    out,
    peak,
    total,
    delta,
    query_grad,
    key_grad,
    value_grad,
    length,
    inner,
    query_pitch,
    key_pitch,
    value_pitch,
    D: tl.constexpr,
    C: tl.constexpr,
    FIRST: tl.constexpr,
    KEYS: tl.constexpr,
    DEPTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """All gradients along one axis for lines of at most KEYS pixels. Every tensor is read once.

    The first axis also computes delta, for itself and for the other axes. value_grad is computed
    transposed, so that the weights are the right operand of a product: that one is in shared memory
    and not in registers.
    """
    line = tl.program_id(0)
    at = tl.arange(0, KEYS)
    inside = at < length
    pixel = line_pixels(line, at, length, inner)
    q = load(query, pixel, inside, query_pitch, 0, D, DEPTH)
    k = load(key, pixel, inside, key_pitch, 0, D, DEPTH)
    m = tl.load(peak + pixel, inside, other=0.0)
    z = tl.load(total + pixel, inside, other=1.0)
    scores = masked_scores(q, k, at[:, None], at[None, :], length, FIRST, PRECISION)
    weights = (tl.exp(scores - m[:, None]) * (1 / z)[:, None]).to(value.dtype.element_ty)

    slope = tl.zeros([KEYS, KEYS], tl.float32)  # [queries, KEYS], grad · vᵀ
    d = tl.zeros([KEYS], tl.float32)
    for channel in range(0, C, CHANNELS):
        g = load(grad, pixel, inside, C, channel, C, CHANNELS)  # [KEYS, CHANNELS]
        v = load(value, pixel, inside, value_pitch, channel, C, CHANNELS)
        slope = tl.dot(g, tl.trans(v), slope, input_precision=PRECISION)
        dv = tl.trans(tl.dot(tl.trans(g), weights, input_precision=PRECISION))
        if FIRST:
            o = load(out, pixel, inside, C, channel, C, CHANNELS)
            d += tl.sum(g.to(tl.float32) * o.to(tl.float32), 1)
        else:
            dv += load(value_grad, pixel, inside, C, channel, C, CHANNELS)
        store(value_grad, pixel, inside, channel, dv, C, CHANNELS)
    if FIRST:
        tl.store(delta + pixel, d, inside)
    else:
        d = tl.load(delta + pixel, inside, other=0.0)

    # recomputed: keeping the scores during the loop would take a third of the registers
    q = load(query, pixel, inside, query_pitch, 0, D, DEPTH)
    k = load(key, pixel, inside, key_pitch, 0, D, DEPTH)
    scores = masked_scores(q, k, at[:, None], at[None, :], length, FIRST, PRECISION)
    slope = (tl.exp(scores - m[:, None]) * (1 / z)[:, None]) * (slope - d[:, None])
    slope = slope.to(q.dtype)
    dk = tl.dot(tl.trans(slope), q, input_precision=PRECISION)  # [KEYS, DEPTH]
    dq = tl.dot(slope, k, input_precision=PRECISION)
    if not FIRST:
        dk += load(key_grad, pixel, inside, D, 0, D, DEPTH)
        dq += load(query_grad, pixel, inside, D, 0, D, DEPTH)
    store(key_grad, pixel, inside, 0, dk, D, DEPTH)
    store(query_grad, pixel, inside, 0, dq, D, DEPTH)


@triton.jit(do_not_specialize=SIZES)
def backward_delta(
    grad, out, delta, pixels, C: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr
):
    """delta_u = ⟨grad_u, out_u⟩."""
    pixel = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = pixel < pixels
    d = tl.zeros([ROWS], tl.float32)
    for channel in range(0, C, CHANNELS):
        g = load(grad, pixel, inside, C, channel, C, CHANNELS)
        o = load(out, pixel, inside, C, channel, C, CHANNELS)
        d += tl.sum(g.to(tl.float32) * o.to(tl.float32), 1)
    tl.store(delta + pixel, d, inside)


@triton.jit(do_not_specialize=SIZES)
def backward_values(
    grad,
    query,
    key,
    peak,
    total,
    value_grad,
    length,
    inner,
    query_pitch,
    key_pitch,
    blocks,
    groups,
    D: tl.constexpr,
    C: tl.constexpr,
    FIRST: tl.constexpr,
    KEYS: tl.constexpr,
    ROWS: tl.constexpr,
    DEPTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The gradient pᵀ grad of the values, for KEYS pixels of a long line and CHANNELS channels."""
    program = tl.program_id(0)
    channel = program % groups * CHANNELS
    block = program // groups % blocks
    line = program // groups // blocks
    at = block * KEYS + tl.arange(0, KEYS)
    inside = at < length
    pixel = line_pixels(line, at, length, inner)
    k = load(key, pixel, inside, key_pitch, 0, D, DEPTH)
    dv = tl.zeros([KEYS, CHANNELS], tl.float32)
    for start in range(0, length, ROWS):
        row = start + tl.arange(0, ROWS)
        row_inside = row < length
        row_pixel = line_pixels(line, row, length, inner)
        q = load(query, row_pixel, row_inside, query_pitch, 0, D, DEPTH)
        g = load(grad, row_pixel, row_inside, C, channel, C, CHANNELS)
        m = tl.load(peak + row_pixel, row_inside, other=0.0)
        z = tl.load(total + row_pixel, row_inside, other=1.0)
        scores = masked_scores(k, q, row[None, :], at[:, None], length, FIRST, PRECISION)
        weights = tl.exp(scores - m[None, :]) * (1 / z)[None, :]  # [KEYS, ROWS]
        dv = tl.dot(weights.to(g.dtype), g, dv, input_precision=PRECISION)
    if not FIRST:
        dv += load(value_grad, pixel, inside, C, channel, C, CHANNELS)
    store(value_grad, pixel, inside, channel, dv, C, CHANNELS)


@triton.jit(do_not_specialize=SIZES)
def backward_scores(
    own,
    own_values,
    other,
    other_values,
    peak,
    total,
    delta,
    own_grad,
    length,
    inner,
    own_pitch,
    own_values_pitch,
    other_pitch,
    other_values_pitch,
    blocks,
    chunks,
    D: tl.constexpr,
    C: tl.constexpr,
    FIRST: tl.constexpr,
    OF_KEYS: tl.constexpr,
    OWN: tl.constexpr,
    OTHERS: tl.constexpr,
    DEPTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The gradient of OWN queries of a long line, Σ ds k, or with OF_KEYS of OWN keys, Σ dsᵀ q.

    Both are the same computation with the sides exchanged: (own, own_values) are (query, grad) and
    (other, other_values) are (key, value), or the reverse. The statistics always belong to the
    queries.
    """
    program = tl.program_id(0)
    block = program % blocks
    line = program // blocks
    at = block * OWN + tl.arange(0, OWN)
    inside = at < length
    pixel = line_pixels(line, at, length, inner)
    mine = load(own, pixel, inside, own_pitch, 0, D, DEPTH)
    result = tl.zeros([OWN, DEPTH], tl.float32)
    for start in range(0, length, OTHERS):
        to = start + tl.arange(0, OTHERS)
        to_inside = to < length
        to_pixel = line_pixels(line, to, length, inner)
        slope = tl.zeros([OWN, OTHERS], tl.float32)
        for chunk in range(chunks):  # the bound is no constant: an unrolled loop would spill
            channel = chunk * CHANNELS
            left = load(own_values, pixel, inside, own_values_pitch, channel, C, CHANNELS)
            right = load(
                other_values, to_pixel, to_inside, other_values_pitch, channel, C, CHANNELS
            )
            slope = tl.dot(left, tl.trans(right), slope, input_precision=PRECISION)
        theirs = load(other, to_pixel, to_inside, other_pitch, 0, D, DEPTH)
        if OF_KEYS:
            m = tl.load(peak + to_pixel, to_inside, other=0.0)[None, :]
            z = tl.load(total + to_pixel, to_inside, other=1.0)[None, :]
            d = tl.load(delta + to_pixel, to_inside, other=0.0)[None, :]
            scores = masked_scores(mine, theirs, to[None, :], at[:, None], length, FIRST, PRECISION)
        else:
            m = tl.load(peak + pixel, inside, other=0.0)[:, None]
            z = tl.load(total + pixel, inside, other=1.0)[:, None]
            d = tl.load(delta + pixel, inside, other=0.0)[:, None]
            scores = masked_scores(mine, theirs, at[:, None], to[None, :], length, FIRST, PRECISION)
        slope = tl.exp(scores - m) * (1 / z) * (slope - d)
        result = tl.dot(slope.to(theirs.dtype), theirs, result, input_precision=PRECISION)
    if not FIRST:
        result += load(own_grad, pixel, inside, D, 0, D, DEPTH)
    store(own_grad, pixel, inside, 0, result, D, DEPTH)
