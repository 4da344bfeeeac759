"""Small checkpoints for the tests of the program, made on the spot: random weights need no download and no torch."""

import json

import numpy as np


def write_safetensors(path, tensors, dtype="<f4"):
    """float16, float32 or float64 tensors, by the format's definition: length, JSON header, bytes."""
    header, data = {}, b""
    for name, array in tensors.items():
        array = np.ascontiguousarray(array, dtype=dtype)
        header[name] = {"dtype": {"<f2": "F16", "<f4": "F32", "<f8": "F64"}[dtype], "shape": list(array.shape), "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def read_safetensors(path):
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    types = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
    return {name: np.frombuffer(data, types[info["dtype"]], np.prod(info["shape"], dtype=int), start + info["data_offsets"][0]).reshape(info["shape"])
            for name, info in header.items() if name != "__metadata__"}


def stored_in(folder, source, dtype, change=lambda tensor: tensor):
    """A copy of a model's config.json and model.safetensors, whose tensors are changed and stored in a type."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text((source / "config.json").read_text())
    tensors = {name: change(np.float64(tensor)) for name, tensor in read_safetensors(source / "model.safetensors").items()}
    write_safetensors(folder / "model.safetensors", tensors, dtype)
    return folder


def between_float16(tensor):
    """Next to numbers that float16 has: rounded to it, each is another one."""
    return tensor * (1 + 2.0**-14)


def llama_shapes(layers=3, heads=4, kv_heads=2, head_dim=8, hidden=24, inner=40, vocab=50):
    shapes = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,)}
    for layer in range(layers):
        base = f"model.layers.{layer}."
        shapes |= {
            base + "input_layernorm.weight": (hidden,),
            base + "post_attention_layernorm.weight": (hidden,),
            base + "self_attn.q_proj.weight": (heads * head_dim, hidden),
            base + "self_attn.k_proj.weight": (kv_heads * head_dim, hidden),
            base + "self_attn.v_proj.weight": (kv_heads * head_dim, hidden),
            base + "self_attn.o_proj.weight": (hidden, heads * head_dim),
            base + "mlp.gate_proj.weight": (inner, hidden),
            base + "mlp.up_proj.weight": (inner, hidden),
            base + "mlp.down_proj.weight": (hidden, inner),
        }
    shapes["lm_head.weight"] = (vocab, hidden)
    return shapes


def llama_tensors(rng, **sizes):
    def normal(shape):
        return rng.normal(size=shape) / np.sqrt(shape[-1])

    return {name: normal(shape) + (len(shape) == 1) for name, shape in llama_shapes(**sizes).items()}


LLAMA_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 50,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}


def make_llama(folder, seed=1, config=None, change=None, layers=3, hidden=24, vocab=50, dtype="<f4"):
    """A Llama with grouped heads and head_dim != hidden / heads. `change(tensors)` may damage it."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = llama_tensors(np.random.default_rng(seed), layers=layers, hidden=hidden, vocab=vocab)
    if change is not None:
        change(tensors)
    write_safetensors(folder / "model.safetensors", tensors, dtype)
    (folder / "config.json").write_text(json.dumps(LLAMA_CONFIG | {"num_hidden_layers": layers, "hidden_size": hidden, "vocab_size": vocab} | (config or {})))
    return folder


def ids_set(name="ids", count=9, seed=3, longest=17, vocab=50):
    rng = np.random.default_rng(seed)
    prompts = [{"id": f"p{i}", "input_ids": rng.integers(0, vocab, rng.integers(2, longest)).tolist()} for i in range(count)]
    return {"name": name, "prompts": prompts}
