"""Writes the folders fp8_blocks and mxfp4 beside this script: random codes and scales as publishers lay them out, and what
transformers makes of them. Run: python make_scaled.py (torch 2.x, transformers 5.x, safetensors).

Every code occurs but NaN. Of fp8_blocks both edges are cut: 37 x 50 in blocks of 16 x 8.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers.integrations.finegrained_fp8 import _dequantize_fp8_weight
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

HERE = Path(__file__).parent


def save(folder, quantization, stored, expected):
    (HERE / folder).mkdir(exist_ok=True)
    (HERE / folder / "config.json").write_text(json.dumps({"quantization_config": quantization}) + "\n")
    for name, tensors in (("model", stored), ("expected", expected)):
        save_file(tensors, HERE / folder / f"{name}.safetensors")
        (HERE / folder / f"{name}.safetensors").chmod(0o644)


def float8_codes(rows, columns):
    codes = torch.randint(0, 256, (rows, columns), dtype=torch.uint8)
    codes.flatten()[:256] = torch.arange(256, dtype=torch.uint8)
    return torch.where(codes % 128 == 127, 1, codes).view(torch.float8_e4m3fn)


def fp8_blocks():
    block, stored, expected = (16, 8), {}, {}
    for name, dtype in (("a.weight", torch.float32), ("b.weight", torch.bfloat16)):
        codes, scales = float8_codes(37, 50), (torch.rand(3, 7) * 1e-3 + 1e-5).to(dtype)
        stored |= {name: codes, name + "_scale_inv": scales}
        expected[name + ".float64"] = _dequantize_fp8_weight(codes, scales, block, torch.float64)
    expected["a.weight.float32"] = _dequantize_fp8_weight(stored["a.weight"], stored["a.weight_scale_inv"], block, torch.float32)
    stored["plain.weight"] = torch.arange(6, dtype=torch.bfloat16)
    save("fp8_blocks", {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": block, "activation_scheme": "dynamic"}, stored, expected)


def mxfp4():
    blocks = torch.randint(0, 256, (2, 40, 3, 16), dtype=torch.uint8)
    scales = torch.randint(100, 140, (2, 40, 3), dtype=torch.uint8)
    scales.flatten()[:2] = torch.tensor([0, 250], dtype=torch.uint8)
    save("mxfp4", {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}, {"w_blocks": blocks, "w_scales": scales},
         {"w.float32": convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)})


if __name__ == "__main__":
    torch.manual_seed(5)
    fp8_blocks()
    mxfp4()
