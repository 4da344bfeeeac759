"""Families of which spectrace knows where the matrices lie and no block: mixtures of experts, hybrids, latent attention.

    tools/dev/differential --stored --seeds 50      random checkpoints, each through spectrace and through transformers

transformers loads a checkpoint into modules, which hold many matrices otherwise than the file (experts of one layer are one
tensor there). What `matrices` takes out of them are the matrices that y = W x of the paper multiplies by; `spectra` are numpy's.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import random_draw
import safetensors.torch
import torch
import transformers
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

EPS = 2.0**-52
LINEAR = {"linear_key_head_dim": 4, "linear_value_head_dim": 6, "linear_num_key_heads": 2, "linear_num_value_heads": 4}
MAMBA = {"mamba_d_state": 8, "mamba_expand": 2}
# In these the columns of an expert are inputs of its transpose: x W, not W x.
TRANSPOSED = ("gpt_oss", "llama4_text")


def routed(field, **others):
    def settings(draw):
        return {field: draw.integer(2, 6), "num_experts_per_tok": 2} | {name: size(draw) for name, size in others.items()}
    return settings


def inner(draw):
    return draw.integer(3, 20)


def shared(draw):
    return draw.integer(1, 2)


def dense_layers(draw):
    return {"mlp_only_layers": [layer for layer in range(3) if draw.chance(0.3)], "decoder_sparse_step": 1}


def dense_beginning(draw):
    return {"first_k_dense_replace": draw.integer(0, 2), "n_group": 1, "topk_group": 1}


def kinds(draw, other):
    """Layer types of a hybrid of three layers, one of which has attention."""
    types = [draw.one_of(other, "full_attention") for _ in range(3)]
    types[draw.integer(0, 2)] = "full_attention"
    return {"layer_types": types}


def latent(draw, query=True):
    return {"kv_lora_rank": draw.integer(3, 9), "q_lora_rank": draw.integer(3, 9) if query and draw.chance(0.6) else None,
            "qk_nope_head_dim": draw.integer(2, 9), "qk_rope_head_dim": draw.one_of(2, 4, 6), "v_head_dim": draw.integer(2, 9)}


def head_dim(draw):
    return {"head_dim": draw.one_of(4, 6, 8, 10)}


FAMILIES = {
    "bamba": lambda d: {"attn_layer_indices": [d.integer(0, 2)]} | MAMBA,
    "deepseek_v2": lambda d: routed("n_routed_experts", moe_intermediate_size=inner, n_shared_experts=shared)(d) | dense_beginning(d) | latent(d),
    "deepseek_v3": lambda d: routed("n_routed_experts", moe_intermediate_size=inner, n_shared_experts=shared)(d) | dense_beginning(d) | latent(d),
    "dots1": lambda d: routed("n_routed_experts", moe_intermediate_size=inner, n_shared_experts=shared)(d) | dense_beginning(d),
    "ernie4_5_moe": lambda d: {"moe_num_experts": d.integer(2, 6), "moe_k": 2, "moe_intermediate_size": inner(d), "moe_num_shared_experts": d.integer(0, 2),
                               "moe_layer_start_index": d.integer(0, 1), "moe_layer_end_index": 2},
    "falcon_h1": lambda d: MAMBA | head_dim(d),
    "flex_olmo": routed("num_experts"),
    "glm4_moe": lambda d: routed("n_routed_experts", moe_intermediate_size=inner, n_shared_experts=shared)(d) | dense_beginning(d) | head_dim(d),
    "glm4_moe_lite": lambda d: routed("n_routed_experts", moe_intermediate_size=inner, n_shared_experts=shared)(d) | dense_beginning(d) | latent(d)
                     | {"q_lora_rank": 7, "mlp_layer_types": [d.one_of("dense", "sparse") for _ in range(3)]},
    "gpt_oss": lambda d: routed("num_local_experts")(d) | head_dim(d),
    "granitemoe": routed("num_local_experts"),
    "granitemoehybrid": lambda d: routed("num_local_experts", shared_intermediate_size=inner)(d) | MAMBA | {
        "layer_types": ["mamba", "attention", d.one_of("mamba", "attention")]} | ({"num_local_experts": 0} if d.chance(0.2) else {}),
    "granitemoeshared": routed("num_local_experts", shared_intermediate_size=inner),
    "hunyuan_v1_moe": lambda d: {"num_experts": d.integer(2, 6), "moe_topk": 2} | head_dim(d),
    "jamba": lambda d: routed("num_experts")(d) | {"attn_layer_period": 3, "attn_layer_offset": d.integer(0, 2), "expert_layer_period": 2,
                                                   "expert_layer_offset": d.integer(0, 1), "mamba_d_state": 4, "mamba_dt_rank": 4, "use_mamba_kernels": False},
    "lfm2": lambda d: kinds(d, "conv") | {"block_auto_adjust_ff_dim": False},
    "lfm2_moe": lambda d: routed("num_experts", moe_intermediate_size=inner)(d) | kinds(d, "conv") | {"num_dense_layers": d.integer(0, 2)},
    "llama4_text": lambda d: {"num_local_experts": d.integer(2, 6), "num_experts_per_tok": 1, "intermediate_size_mlp": inner(d),
                              "interleave_moe_layer_step": d.integer(1, 2)} | head_dim(d),
    "minicpm3": lambda d: latent(d) | {"q_lora_rank": 7, "mlp_bias": False},
    "minimax": lambda d: routed("num_local_experts")(d) | head_dim(d) | kinds(d, "linear_attention") | {"block_size": 8},
    "minimax_m2": lambda d: routed("num_local_experts")(d) | head_dim(d),
    "mixtral": lambda d: routed("num_local_experts")(d) | (head_dim(d) if d.chance(0.5) else {}),
    "olmoe": routed("num_experts"),
    "phimoe": routed("num_local_experts"),
    "qwen2_moe": lambda d: routed("num_experts", moe_intermediate_size=inner, shared_expert_intermediate_size=inner)(d) | dense_layers(d),
    "qwen3_5_moe_text": lambda d: routed("num_experts", moe_intermediate_size=inner, shared_expert_intermediate_size=inner)(d) | LINEAR | head_dim(d)
                        | kinds(d, "linear_attention"),
    "qwen3_5_text": lambda d: LINEAR | head_dim(d) | kinds(d, "linear_attention"),
    "qwen3_moe": lambda d: routed("num_experts", moe_intermediate_size=inner)(d) | dense_layers(d) | head_dim(d),
    "qwen3_next": lambda d: routed("num_experts", moe_intermediate_size=inner, shared_expert_intermediate_size=inner)(d) | LINEAR | head_dim(d)
                  | kinds(d, "linear_attention") | dense_layers(d),
}


def draw_config(family, seed):
    """A config of the family's class, of three layers; sizes in which a permutation shows."""
    draw = random_draw.Draw(seed, sorted(FAMILIES).index(family))
    heads, size = draw.one_of(2, 3, 4, 6), 2 * draw.integer(2, 5)
    settings = {"vocab_size": draw.integer(30, 60), "hidden_size": heads * size, "num_hidden_layers": 3, "num_attention_heads": heads,
                "num_key_value_heads": draw.one_of(*random_draw.divisors(heads)), "intermediate_size": 2 * draw.integer(3, 12),
                "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None, "tie_word_embeddings": draw.chance(0.3)}
    settings |= FAMILIES[family](draw)
    if "kv_lora_rank" in settings:
        settings["num_key_value_heads"] = heads
    if "mamba_expand" in settings:
        settings |= {"mamba_n_heads": heads, "mamba_d_head": 2 * size, "mamba_d_ssm": 2 * settings["hidden_size"]}
    return transformers.CONFIG_MAPPING[family](**settings)


def save(config, folder, seed, dtype):
    """A checkpoint with every number drawn: a class's own start has zeros and ones, in which nothing shows."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    shutil.rmtree(folder, ignore_errors=True)
    model.to(dtype).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)


def save_mxfp4(folder, seed):
    """gpt-oss as it was released: 4-bit codes and a power of two for each 32 of them. Returns the experts' matrices, [E, in, out] by layer and name."""
    config = transformers.GptOssConfig(vocab_size=40, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
                                       intermediate_size=32, num_local_experts=3, num_experts_per_tok=2)
    save(config, folder, seed, torch.bfloat16)
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(seed)
    plain = {}
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, fan_in, fan_out = tensors.pop(name).shape
        blocks = torch.randint(0, 256, (experts, fan_out, fan_in // 32, 16), generator=generator, dtype=torch.uint8)
        scales = torch.randint(118, 128, (experts, fan_out, fan_in // 32), generator=generator, dtype=torch.uint8)
        tensors |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        plain[name] = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32).double().numpy()
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    settings = json.loads((folder / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.embed_tokens", "lm_head"]}
    (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n")
    return plain


def save_fp8(folder, seed):
    """DeepSeek-V3 as it was released: e4m3 with a float32 scale for each block, here of 16 x 16. Returns the matrices, by name."""
    config = draw_config("deepseek_v3", seed)
    save(config, folder, seed, torch.bfloat16)
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(seed)
    plain = {}
    for name, tensor in list(tensors.items()):
        if ".layers." not in name or tensor.dim() != 2 or name.endswith("mlp.gate.weight"):
            continue
        codes = torch.randn(tensor.shape, generator=generator).mul(30).to(torch.float8_e4m3fn)
        scales = torch.rand([(size + 15) // 16 for size in tensor.shape], generator=generator) + 0.5
        tensors |= {name: codes, f"{name}_scale_inv": scales}
        spread = scales.double().repeat_interleave(16, 0).repeat_interleave(16, 1)[:tensor.shape[0], :tensor.shape[1]]
        plain[name] = (codes.double() * spread).numpy()
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    settings = json.loads((folder / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [16, 16]}
    (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n")
    return plain, config


# What the modules hold -------------------------------------------------------------------------------------------------


def linear(module):
    return module.weight.detach().double().numpy()


def attention_matrices(layer, config):
    """{"W_Q": …} of a layer, (out, in), heads one after the other; {} if it has no attention."""
    attention = getattr(layer, "self_attn", None)
    if attention is None or not (hasattr(attention, "k_proj") or hasattr(attention, "kv_b_proj")):
        return {}
    output = linear(attention.o_proj if hasattr(attention, "o_proj") else attention.out_proj)
    if not hasattr(attention, "kv_b_proj"):
        queries = linear(attention.q_proj)
        if config.model_type in ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"):
            # Their forward: q_proj(x).view(…, heads, 2 d), of which the first d are the query.
            queries = queries.reshape(config.num_attention_heads, 2, -1, queries.shape[1])[:, 0].reshape(-1, queries.shape[1])
        return {"W_Q": queries, "W_K": linear(attention.k_proj), "W_V": linear(attention.v_proj), "W_O": output}
    matrices = {}
    if config.q_lora_rank is None:
        matrices["W_Q"] = linear(attention.q_proj)
    else:
        matrices |= {"W_DQ": linear(attention.q_a_proj), "W_UQ": linear(attention.q_b_proj)}
    down = linear(attention.kv_a_proj_with_mqa)
    up = linear(attention.kv_b_proj).reshape(config.num_attention_heads, config.qk_nope_head_dim + config.v_head_dim, -1)
    rank = config.kv_lora_rank
    return matrices | {"W_DKV": down[:rank], "W_KR": down[rank:], "W_UK": up[:, :config.qk_nope_head_dim].reshape(-1, rank),
                       "W_UV": up[:, config.qk_nope_head_dim:].reshape(-1, rank), "W_O": output}


def one_network(module):
    """{"W_gate": …} of an MLP's module; None if it is none."""
    for gate, up, down in (("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2")):
        if hasattr(module, up):
            return {"W_gate": linear(getattr(module, gate)), "W_up": linear(getattr(module, up)), "W_down": linear(getattr(module, down))}
    if hasattr(module, "input_linear"):
        gate, up = np.split(linear(module.input_linear), 2)
        return {"W_gate": gate, "W_up": up, "W_down": linear(module.output_linear)}
    return None


def routed_networks(experts, family):
    gate_up, down = (tensor.detach().double().numpy() for tensor in (experts.gate_up_proj, experts.down_proj))
    if family in TRANSPOSED:
        gate_up, down = gate_up.transpose(0, 2, 1), down.transpose(0, 2, 1)
    for number, (both, back) in enumerate(zip(gate_up, down, strict=True)):
        gate, up = (both[::2], both[1::2]) if family == "gpt_oss" else np.split(both, 2)
        yield str(number), {"W_gate": gate, "W_up": up, "W_down": back}


def networks(layer, family):
    """{"0": {"W_gate": …}, …, "shared": …, "dense": …} of a layer."""
    found = {}
    mlp = next((getattr(layer, name) for name in ("block_sparse_moe", "mlp", "feed_forward") if getattr(layer, name, None) is not None), None)
    if hasattr(mlp, "experts"):
        found |= dict(routed_networks(mlp.experts, family))
    elif (dense := one_network(mlp)) is not None:
        found["dense"] = dense
    for holder in (mlp, layer):
        for name in ("shared_expert", "shared_experts", "shared_mlp"):
            if getattr(holder, name, None) is not None:
                found["shared"] = one_network(getattr(holder, name))
    return found


def matrices(folder):
    """A checkpoint's layers as transformers holds them: a list of ({"W_Q": …}, {"0": {"W_gate": …}}), and W_U."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = model.config.get_text_config()
    layers = [(attention_matrices(layer, config), networks(layer, config.model_type)) for layer in model.model.layers]
    return layers, linear(model.get_output_embeddings()), config


# What spectrace finds --------------------------------------------------------------------------------------------------


def names_of_experts(layers):
    """Along the dimension `expert`: numbers, shared, dense; none where each layer has the same one MLP."""
    found = {name for _, experts in layers for name in experts}
    if all(len(experts) == 1 for _, experts in layers) and len(found) == 1:
        return []
    numbers = sorted((name for name in found if name.isdigit()), key=int)
    return numbers + [name for name in ("shared", "dense") if name in found]


def spectrum(matrix):
    return np.linalg.svd(matrix, compute_uv=False)


def compare_slot(group, place, matrix, where, problems):
    """One matrix of a group like /weights against numpy; None: the slot has to be empty."""
    values, bound = group["singular_values"][place], group["singular_value_error"][place] if "singular_value_error" in group else 0.0
    if matrix is None:
        if not np.isnan(values).all():
            problems.append(f"{where}: there is no such matrix, and values are there")
        return
    sigma = spectrum(matrix)
    error = np.abs(values[:len(sigma)] - sigma).max()
    if not error <= bound + 1e-13 * sigma[0]:
        problems.append(f"{where}: singular values differ by {error:.2e}, the bound is {bound:.2e}")
    if not np.isnan(values[len(sigma):]).all():
        problems.append(f"{where}: more singular values than the matrix has")
    norm = np.linalg.norm(matrix)
    if not abs(group["frobenius_norm"][place] - norm) <= 1e-12 * norm:
        problems.append(f"{where}: Frobenius norm {group['frobenius_norm'][place]}, expected {norm}")
    if "entry_mean" in group and not abs(group["entry_mean"][place] - matrix.mean()) <= 1e-12 * np.abs(matrix).max():
        problems.append(f"{where}: mean of the entries {group['entry_mean'][place]}, expected {matrix.mean()}")


def slices_of(matrix, role, config, heads):
    """[heads] of slices of one of the four matrices, each with the slice of its key/value head."""
    count = config.num_attention_heads if role in ("W_Q", "W_O") else config.num_key_value_heads
    parts = np.split(matrix, count, axis=1 if role == "W_O" else 0)
    return [parts[head * count // heads] for head in range(heads)]


def compare(results, layers, unembedding, config):
    """Problems, as texts, of a results file against the matrices of transformers."""
    problems = []
    experts = names_of_experts(layers)
    with h5py.File(results) as file:
        if file.attrs["status"] != "ok":
            return [f"status {file.attrs['status']}: {file.attrs['error']}"]
        roles = [role for role in ("W_DQ", "W_UQ", "W_Q", "W_DKV", "W_KR", "W_UK", "W_K", "W_UV", "W_V", "W_O")
                 if any(role in attention for attention, _ in layers)]
        if list(file["weights/matrix"].asstr()) != roles:
            problems.append(f"weights/matrix is {list(file['weights/matrix'].asstr())}, expected {roles}")
            return problems
        for layer, (attention, mlps) in enumerate(layers):
            for i, role in enumerate(roles):
                compare_slot(file["weights"], (layer, i), attention.get(role), f"layer {layer}, {role}", problems)
            if "heads" in file:
                for i, role in enumerate(roles):
                    parts = slices_of(attention[role], role, config, config.num_attention_heads) if role in attention else None
                    for head in range(config.num_attention_heads):
                        compare_slot(file["heads"], (layer, i, head), None if parts is None else parts[head], f"layer {layer}, {role} of head {head}", problems)
            for i, role in enumerate(("W_gate", "W_up", "W_down")):
                if not experts:
                    compare_slot(file["mlp"], (layer, i), next(iter(mlps.values()))[role], f"layer {layer}, {role}", problems)
                for e, name in enumerate(experts):
                    compare_slot(file["mlp"], (layer, e, i), mlps[name][role] if name in mlps else None, f"layer {layer}, expert {name}, {role}", problems)
        if experts and list(file["mlp/expert"].asstr()) != experts:
            problems.append(f"mlp/expert is {list(file['mlp/expert'].asstr())}, expected {experts}")
        if bool(experts) != ("expert" in file["mlp"]):
            problems.append("mlp has a dimension expert, or should have one")
        if ("heads" in file) != ("kv_lora_rank" not in config.to_dict() or config.kv_lora_rank is None):
            problems.append("heads is there, or should be")
        sigma = spectrum(unembedding)
        if not np.abs(file["unembedding/singular_values"][:] - sigma).max() <= file["unembedding/singular_value_error"][()] + 1e-13 * sigma[0]:
            problems.append("the unembedding's singular values differ")
    return problems


ANALYSES = ["weights", "heads", "circuits", "mlp", "unembedding", "attention"]


def run(program, folders, work):
    """Results of all folders' spectra, by the folder's name; the log."""
    job = {"name": "stored", "models": [{"name": folder.name, "path": str(folder)} for folder in folders], "analyses": ANALYSES,
           "prompt_sets": [{"name": "ids", "prompts": [{"id": "a", "input_ids": [1, 2, 3]}]}]}
    path = work / "job.json"
    path.write_text(json.dumps(job))
    done = subprocess.run([program, "run", path, "--output", work / "results"], capture_output=True, text=True)
    return {folder.name: work / "results" / f"{folder.name}.h5" for folder in folders}, done


def run_family(program, family, seeds, keep):
    """{seed: problems} of those that failed; their checkpoints are kept."""
    failed = {}
    with tempfile.TemporaryDirectory(prefix="spectrace-stored-") as temporary:
        work = pathlib.Path(temporary)
        folders = {seed: work / f"{family}-{seed}" for seed in seeds}
        for seed, folder in folders.items():
            save(draw_config(family, seed), folder, seed, (torch.float32, torch.bfloat16, torch.float16)[seed % 3])
        results, done = run(program, list(folders.values()), work)
        for seed, folder in folders.items():
            path = results[folder.name]
            if problems := compare(path, *matrices(folder)) if path.exists() else [done.stderr[-2000:]]:
                failed[seed] = problems
                shutil.copytree(folder, keep / folder.name, dirs_exist_ok=True)
    return failed


def run_differential(program, families, seeds, keep, json_file=None):
    """Prints each family's line and each failure; whether any failed."""
    any_failed = False
    tallies = {}
    for family in families:
        failed = run_family(program, family, seeds, keep)
        for seed, problems in failed.items():
            print(f"{family}-{seed}: " + "; ".join(problems[:5]) + f"\n  kept in {keep / f'{family}-{seed}'}", flush=True)
        any_failed |= bool(failed)
        print(f"{family:18} {len(seeds):4} seeds {len(failed):4} failed", flush=True)
        tallies[family] = {"seeds": len(seeds), "failures": [{"seed": seed, "problem": "; ".join(problems)} for seed, problems in failed.items()]}
        if json_file:  # after each family: a run that is stopped leaves what it has
            versions = {"transformers": transformers.__version__, "torch": torch.__version__, "numpy": np.__version__}
            json_file.write_text(json.dumps({"versions": versions, "first_seed": seeds[0], "stored": tallies}, indent=1) + "\n")
    return any_failed


def main():
    parser = argparse.ArgumentParser(prog="tools/dev/differential --stored", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = pathlib.Path(__file__).resolve().parents[2]
    add = parser.add_argument
    add("--family", action="append", choices=sorted(FAMILIES), metavar="F", help=f"{', '.join(FAMILIES)}; may be repeated; without: all")
    add("--seeds", type=int, default=10, metavar="N", help="how many of each family (default 10)")
    add("--first-seed", type=int, default=0, metavar="K", help="seeds K to K + N - 1 (default 0)")
    add("--keep", type=pathlib.Path, default=root / "build" / "differential", metavar="DIR", help="where the checkpoints of failed seeds go")
    add("--program", type=pathlib.Path, default=root / "build" / "release" / "spectrace", help="spectrace (default: that of build/release)")
    add("--fixed", nargs=2, metavar=("FAMILY", "DIR"), help="write the checkpoint of seed 0 there, and do nothing else (tests/data/stored)")
    add("--json", type=pathlib.Path, metavar="FILE", help="write the results there too, for tools/dev/differential --table")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    if arguments.fixed:
        save(draw_config(arguments.fixed[0], 0), pathlib.Path(arguments.fixed[1]), 0, torch.bfloat16)
        return 0
    return run_differential(arguments.program, arguments.family or sorted(FAMILIES),
                            range(arguments.first_seed, arguments.first_seed + arguments.seeds), arguments.keep, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
