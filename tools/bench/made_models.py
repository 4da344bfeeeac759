"""Checkpoints for the benchmarks: Llama geometry, made of noise, or sparse files where only headers are read."""

import json
import struct

import numpy as np

SIZES = {
    # layers, heads, key/value heads, head_dim, hidden, intermediate, vocabulary
    "tiny": (3, 4, 2, 8, 24, 40, 50),
    "small": (6, 8, 4, 64, 512, 1408, 8000),
    "8b": (32, 32, 8, 128, 4096, 14336, 128256),
    # Records and results as large as an 8B model's, weights of next to nothing.
    "8b-records": (32, 32, 8, 2, 64, 64, 50),
}


def shapes_of(size, tied=False):
    layers, heads, kv_heads, head_dim, hidden, inner, vocab = SIZES[size]
    shapes = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,)}
    if not tied:
        shapes["lm_head.weight"] = (vocab, hidden)
    for layer in range(layers):
        here = f"model.layers.{layer}."
        shapes |= {
            here + "input_layernorm.weight": (hidden,),
            here + "post_attention_layernorm.weight": (hidden,),
            here + "self_attn.q_proj.weight": (heads * head_dim, hidden),
            here + "self_attn.k_proj.weight": (kv_heads * head_dim, hidden),
            here + "self_attn.v_proj.weight": (kv_heads * head_dim, hidden),
            here + "self_attn.o_proj.weight": (hidden, heads * head_dim),
            here + "mlp.gate_proj.weight": (inner, hidden),
            here + "mlp.up_proj.weight": (inner, hidden),
            here + "mlp.down_proj.weight": (hidden, inner),
        }
    return shapes


def make_model(folder, size, seed=0, sparse=False, tied=False):
    """Float32 noise, bfloat16 and nothing written but the header where `sparse`. Returns the checkpoint's bytes."""
    layers, heads, kv_heads, head_dim, hidden, inner, vocab = SIZES[size]
    folder.mkdir(parents=True)
    shapes = shapes_of(size, tied)
    width, header, offset = (2 if sparse else 4), {}, 0
    for name, shape in shapes.items():
        end = offset + width * int(np.prod(shape))
        header[name] = {"dtype": "BF16" if sparse else "F32", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    generator = np.random.default_rng(seed)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        if sparse:
            file.truncate(8 + len(text) + offset)
        else:
            for name, shape in shapes.items():
                scale = 1.0 / np.sqrt(shape[-1])
                values = np.ones(shape) if len(shape) == 1 else generator.standard_normal(shape, dtype=np.float32) * scale
                file.write(values.astype("<f4").tobytes())
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim,
        "vocab_size": vocab, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        "hidden_act": "silu", "tie_word_embeddings": tied, "torch_dtype": "bfloat16" if sparse else "float32",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return offset


def make_set(count, tokens, size, name="made", seed=0):
    """`tokens`: of each prompt, or (least, most)."""
    vocab, generator = SIZES[size][-1], np.random.default_rng(seed)
    least, most = tokens if isinstance(tokens, tuple) else (tokens, tokens)
    lengths = generator.integers(least, most + 1, count)
    return {"name": name, "prompts": [{"id": str(i), "input_ids": generator.integers(0, vocab, n).tolist()} for i, n in enumerate(lengths)]}
