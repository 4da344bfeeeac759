"""Writes the pytorch .bin files beside this script with torch.save. Run: python make_bins.py (torch 2.x).

Every tensor is named after its case; element i (row-major) of a tensor of case number c is value(c, i), a multiple of
1/8 below 32: exact in every float type. The tests compute the same formula.
"""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch

HERE = Path(__file__).parent


def values(case, *shape, dtype=torch.float32):
    count = 1
    for size in shape:
        count *= size
    i = torch.arange(count, dtype=torch.int64)
    return (((i * 7 + case * 13) % 251 - 125).double() / 8).to(dtype).reshape(shape)


def save(name, value, **options):
    torch.save(value, HERE / name, **options)


def types():
    state = OrderedDict()
    state["float64"] = values(1, 3, 5, dtype=torch.float64)
    state["float32"] = values(2, 3, 5)
    state["float16"] = values(3, 3, 5, dtype=torch.float16)
    state["bfloat16"] = values(4, 3, 5, dtype=torch.bfloat16)
    state["int64"] = torch.arange(6)
    state["mask"] = torch.ones(2, 2, dtype=torch.bool)
    state["parameter"] = torch.nn.Parameter(values(5, 7))
    state["scalar"] = values(6)
    state["empty"] = values(7, 0, 4)
    state._metadata = {"": {"version": 1}}
    return state


def views():
    base = values(10, 6, 8)
    cube = values(11, 4, 3, 5)
    return {
        "tied.a": base,
        "tied.b": base,  # the same storage, from its start
        "rows": base[2:5],  # the same storage, from its middle
        "columns": base[:, 3:6],
        "every_second": base[::2, 1::3],
        "transposed": base.t(),
        "transposed.bfloat16": base.to(torch.bfloat16).t(),
        "permuted": cube.permute(2, 0, 1),
        "expanded": values(12, 1, 4).expand(3, 4),
    }


def nested():
    return {
        "epoch": 3,
        "lr": 0.125,
        "state_dict": OrderedDict(weight=values(20, 2, 3)),
        "optimizer": {"state": {0: {"exp_avg": values(21, 2, 3)}}},
    }


class OwnTensor(torch.Tensor):
    pass


def with_attributes(own):
    """Tensors that have Python attributes, which torch.save keeps."""
    tensor, parameter = values(50, 2, 3), torch.nn.Parameter(values(51, 5))
    tensor.tag, parameter.tag = "kept", {"steps": [1, 2.5]}
    state = {"tensor": tensor, "transposed": tensor.t(), "parameter": parameter}
    state["transposed"].tag = None
    return state | ({"own": values(52, 2).as_subclass(OwnTensor)} if own else {})


class Hostile:
    def __reduce__(self):
        return os.system, ("echo this must never run",)


def repack(name, target, *, method=zipfile.ZIP_STORED, replace=None):
    """Copies an archive record by record, some replaced, as another program would pack it."""
    with zipfile.ZipFile(HERE / name) as old, zipfile.ZipFile(HERE / target, "w", method) as new:
        for record in old.infolist():
            content = old.read(record)
            for ending, other in (replace or {}).items():
                if record.filename.endswith(ending):
                    content = other
            new.writestr(zipfile.ZipInfo(record.filename), content, compress_type=method)


def hostile_pickle(opcodes):
    return b"\x80\x02" + opcodes + b"."


def main():
    save("types.bin", types())
    save("types_protocol4.bin", types(), pickle_protocol=4)
    save("views.bin", views())
    save("nested.bin", nested())
    save("shard-00001-of-00002.bin", {"a": values(30, 2, 2)})
    save("shard-00002-of-00002.bin", {"b": values(31, 3, 2), "c": values(32, 5, dtype=torch.float16)})
    save("float8.bin", {"w": values(40, 2, 2).to(torch.float8_e4m3fn)})
    save("attributes.bin", with_attributes(own=False))
    save("own_class.bin", with_attributes(own=True))
    save("negated.bin", {"z": torch._neg_view(values(41, 3))})
    save("legacy.bin", {"w": values(43, 2)}, _use_new_zipfile_serialization=False)
    save("os_system.bin", {"w": values(44, 2), "config": Hostile()})
    repack("nested.bin", "deflated.bin", method=zipfile.ZIP_DEFLATED)
    repack("nested.bin", "big_endian.bin", replace={"/byteorder": b"big"})
    # 'i' is INST, which imports and calls in one opcode.
    repack("nested.bin", "opcode.bin", replace={"/data.pkl": hostile_pickle(b"(ios\nsystem\n")})
    repack("nested.bin", "short_storage.bin", replace={"/data/0": struct.pack("<5f", *range(5))})


if __name__ == "__main__":
    main()
