"""Vectors for numba: numbers that one instruction of the CPU works on together.

A `Lanes` holds as many numbers of its type as the CPU's vector registers. Kernels written with it do not depend on whether the
compiler finds the vectors by itself. Comparisons give a mask. Sums and products may be fused; nothing else is reordered.
"""

import operator
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.typing.templates import Signature
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

_FEATURES = llvm.get_host_cpu_features()
# as wide as the machine's registers: wider vectors spill, which was measured as 30 times slower
_REGISTER_BITS = 512 if _FEATURES.get("avx512f") else 256 if _FEATURES.get("avx") else 128
# lets LLVM fuse a product and a sum; the other flags would reorder sums or assume that there is no nan
_FUSED = ("contract",)
_operation: Any = intrinsic  # what it makes of a function is called without the function's first argument


def lane_count(dtype: Any) -> int:
    """Numbers of a NumPy type in one vector."""
    return _REGISTER_BITS // (8 * np.dtype(dtype).itemsize)


class Lanes(types.Type):
    """Type of a vector of `dtype` (a numba number, or boolean for a mask)."""

    def __init__(self, dtype: Any, count: int) -> None:
        self.dtype, self.count = dtype, count
        super().__init__(name=f"Lanes({dtype}, {count})")

    @property
    def key(self) -> tuple[Any, int]:
        """What makes two types equal."""
        return self.dtype, self.count


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        element = ir.IntType(1) if kind.dtype == types.boolean else manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, kind.count))


def _lanes_of(dtype: Any) -> Lanes:
    return Lanes(dtype, _REGISTER_BITS // dtype.bitwidth)


def _vector_pointer(context: Any, builder: ir.IRBuilder, kind: types.Array, array: ir.Value, start: ir.Value) -> ir.Value:
    data = context.make_array(kind)(context, builder, array).data
    lanes = context.get_value_type(_lanes_of(kind.dtype))
    return builder.bitcast(builder.gep(data, [start]), lanes.as_pointer())


def _call_llvm(builder: ir.IRBuilder, name: str, lanes: Lanes, result: ir.Type, values: list[ir.Value], **options: Any) -> ir.Value:
    function = ir.FunctionType(result, [value.type for value in values])
    full_name = f"llvm.{name}.v{lanes.count}f{lanes.dtype.bitwidth}"
    return builder.call(cgutils.get_or_insert_function(builder.module, function, full_name), values, **options)


@_operation
def lanes_in(typing: Any, array: Any) -> tuple[Signature, Any]:
    """Numbers of an array's type in one vector: a constant of the machine code."""
    count = _lanes_of(array.dtype).count
    return types.intp(array), lambda context, builder, signature, values: context.get_constant(types.intp, count)


@_operation
def load(typing: Any, array: Any, start: types.Integer) -> tuple[Signature, Any]:
    """The vector that begins at element `start` of a contiguous 1-D array."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Signature, values: list[ir.Value]) -> ir.Value:
        # vectors begin at any element; without `align` LLVM takes them to be aligned to their whole width
        return builder.load(_vector_pointer(context, builder, array, *values), align=array.dtype.bitwidth // 8)

    return _lanes_of(array.dtype)(array, types.intp), emit


@_operation
def store(typing: Any, array: Any, start: types.Integer, vector: Lanes) -> tuple[Signature, Any]:
    """Write a vector to element `start` and the ones after it."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Signature, values: list[ir.Value]) -> ir.Value:
        builder.store(values[2], _vector_pointer(context, builder, array, *values[:2]), align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, _lanes_of(array.dtype)), emit


@_operation
def spread(typing: Any, array: Any, value: types.Number) -> tuple[Signature, Any]:
    """The same number, in the type of an array's elements, in every lane."""
    kind = _lanes_of(array.dtype)

    def emit(context: Any, builder: ir.IRBuilder, signature: Signature, values: list[ir.Value]) -> ir.Value:
        return _spread(builder, values[1], context.get_value_type(kind))

    return kind(array, kind.dtype), emit


def _spread(builder: ir.IRBuilder, value: ir.Value, lanes: ir.VectorType) -> ir.Value:
    first = builder.insert_element(ir.Constant(lanes, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, ir.Constant(lanes, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), lanes.count), None))


@_operation
def select(typing: Any, mask: Lanes, chosen: Lanes, other: Lanes) -> tuple[Signature, Any]:
    """`chosen` where the mask is set, else `other`."""
    return chosen(mask, chosen, chosen), lambda context, builder, signature, values: builder.select(*values)


@_operation
def any_lane(typing: Any, mask: Lanes) -> tuple[Signature, Any]:
    """Whether a lane of the mask is set."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Signature, values: list[ir.Value]) -> ir.Value:
        bits = ir.IntType(mask.count)
        return builder.icmp_unsigned("!=", builder.bitcast(values[0], bits), bits(0))

    return types.boolean(mask), emit


@_operation
def lowest_bit(typing: Any, bits: types.Integer) -> tuple[Signature, Any]:
    """Index of the lowest set bit of a number that is not zero."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Signature, values: list[ir.Value]) -> ir.Value:
        return builder.cttz(values[0], ir.IntType(1)(1))  # 1: the result for zero is undefined

    return types.int64(types.int64), emit


@_operation
def total(typing: Any, vector: Lanes) -> tuple[Signature, Any]:
    """Sum of the lanes, pairwise."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Signature, values: list[ir.Value]) -> ir.Value:
        element = context.get_value_type(vector.dtype)
        # −0.0 is the neutral element (0.0 changes a −0.0); without "reassoc" lane would be added after lane
        return _call_llvm(builder, "vector.reduce.fadd", vector, element, [element(-0.0), values[0]], fastmath=("reassoc",))

    return vector.dtype(vector), emit


def _rounding(name: str) -> Any:
    @_operation
    def function(typing: Any, vector: Lanes) -> tuple[Signature, Any]:
        def emit(context: Any, builder: ir.IRBuilder, signature: Signature, values: list[ir.Value]) -> ir.Value:
            return _call_llvm(builder, name, vector, values[0].type, values)

        return vector(vector), emit

    return function


square_root = _rounding("sqrt")
nearest_integer = _rounding("rint")


@_operation
def power_of_two(typing: Any, exponent: Lanes) -> tuple[Signature, Any]:
    """2ⁿ for integral n within the exponents of the type; made of its bits."""
    mantissa, bits = (23, ir.IntType(32)) if exponent.dtype == types.float32 else (52, ir.IntType(64))

    def emit(context: Any, builder: ir.IRBuilder, signature: Signature, values: list[ir.Value]) -> ir.Value:
        # adding 1.5·2^mantissa leaves n, in two's complement, in the low bits; unlike a conversion, it is defined for every number
        lanes, integers = values[0].type, ir.VectorType(bits, exponent.count)
        shifter = ir.Constant(lanes, [1.5 * 2.0**mantissa] * exponent.count)
        low = builder.bitcast(builder.fadd(values[0], shifter), integers)
        shifted = builder.shl(low, ir.Constant(integers, [mantissa] * exponent.count))
        one = builder.bitcast(ir.Constant(lanes, [1.0] * exponent.count), integers)
        return builder.bitcast(builder.add(shifted, one), lanes)

    return exponent(exponent), emit


def _same_lanes(context: Any) -> Any:
    return lambda a, b: a if isinstance(a, Lanes) and a == b else None


def _mask_of_lanes(context: Any) -> Any:
    return lambda a, b: Lanes(types.boolean, a.count) if isinstance(a, Lanes) and a == b else None


for _operator, _emit in {
    operator.add: lambda builder, a, b: builder.fadd(a, b, flags=_FUSED),
    operator.sub: lambda builder, a, b: builder.fsub(a, b, flags=_FUSED),
    operator.mul: lambda builder, a, b: builder.fmul(a, b, flags=_FUSED),
    operator.truediv: lambda builder, a, b: builder.fdiv(a, b),
}.items():
    type_callable(_operator)(_same_lanes)
    # a default, as a free name would be that of the last pass of the loop
    lower_builtin(_operator, Lanes, Lanes)(lambda context, builder, signature, values, emit=_emit: emit(builder, *values))
for _operator, _symbol in {operator.gt: ">", operator.lt: "<", operator.eq: "=="}.items():
    type_callable(_operator)(_mask_of_lanes)
    lower_builtin(_operator, Lanes, Lanes)(
        lambda context, builder, signature, values, symbol=_symbol: builder.fcmp_ordered(symbol, *values)
    )


@njit(forceinline=True)
def larger(a: Any, b: Any) -> Any:
    """The larger of each two; `b` where one is not a number."""
    return select(a > b, a, b)


@njit(forceinline=True)
def smaller(a: Any, b: Any) -> Any:
    """The smaller of each two; `b` where one is not a number."""
    return select(a < b, a, b)
