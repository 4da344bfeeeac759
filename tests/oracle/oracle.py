"""The independent implementation: transformers' own classes, eager attention, float64.

    oracle_forward(folder, prompts) -> list of Forward, one a prompt

The folder is loaded in float32 and then turned to float64, so that rotary tables and Gemma's sqrt(D) keep the values
that they have in float32. transformers computes rotary angles in float32 always, and softmax and RMSNorm in float32 in
most families; `exact=True` lifts the last two to float64, which leaves rounding of the rotary tables alone.
"""

import contextlib
import dataclasses
import functools
import json
import math
import pathlib

import numpy as np
import torch
import transformers

torch.set_grad_enabled(False)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


class MiMoConfig(transformers.Qwen2Config):
    """MiMo's own class (XiaomiMiMo/MiMo-7B-Base, configuration_mimo.py) adds one number to Qwen2's."""

    model_type = "mimo"
    num_nextn_predict_layers: int = 0


class MiMoForCausalLM(transformers.Qwen2ForCausalLM):
    """MiMo's own class adds a head that its forward pass does not use; its tensors are make_checkpoints.mtp_tensors."""

    config_class = MiMoConfig


transformers.AutoConfig.register("mimo", MiMoConfig)
transformers.AutoModelForCausalLM.register(MiMoConfig, MiMoForCausalLM)


@dataclasses.dataclass
class Forward:
    """One prompt of n tokens, in float64."""

    attentions: np.ndarray  # [layers, heads, n, n]
    boundaries: np.ndarray  # [layers + 1, n, hidden]: what enters block 0, then the raw output of each block
    final_norm: np.ndarray  # [n, hidden]: after the final norm (the last block's output where there is none)
    logits: np.ndarray  # [n, vocab]: what enters the softmax over next tokens
    scores: np.ndarray  # [layers, heads, n, n]: what enters the softmax of the attentions; -inf where it is masked


def load_model(folder, dtype=torch.float64):
    """The model of a folder, without dropout: loaded in float32 and then converted."""
    model = load_as(folder, torch.float32).to(dtype).eval()
    if dtype == torch.float64 and stored_type(folder) == "float64":
        # Weights that float32 does not hold; the tables stay as above.
        for parameter, whole in zip(model.parameters(), load_as(folder, torch.float64).parameters(), strict=True):
            parameter.copy_(whole)
    for module in model.modules():
        # GPT-2's switch: the same scores, computed in float32 (and refused when anything else is float64).
        if hasattr(module, "reorder_and_upcast_attn"):
            module.reorder_and_upcast_attn = False
    return run_xglm_in_own_type(heed_mpt_fields(count_falcon_alibi_once(model)))


def auto_class(config):
    """The class that makes the model of a config: of text, or of more than text."""
    is_text = config.get_text_config() is config
    return transformers.AutoModelForCausalLM if is_text else transformers.AutoModelForImageTextToText


def load_as(folder, dtype):
    return auto_class(transformers.AutoConfig.from_pretrained(folder)).from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", local_files_only=True
    )


def stored_type(folder):
    """The type that config.json names, in the new style or the old."""
    config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    return config.get("dtype", config.get("torch_dtype"))


def count_falcon_alibi_once(model):
    """transformers 5.23 puts Falcon's ALiBi into the causal mask, for sdpa, and its eager attention adds it once more.

    Takes it out of the mask again: the scores are (q k + alibi) / sqrt(d), as in the original code and as sdpa does it.
    """
    if model.config.model_type == "falcon" and model.config.alibi:
        for block in model.transformer.h:
            attention = block.self_attention
            attention.forward = mask_without_alibi(attention.forward)
    return model


def mask_without_alibi(forward):
    def wrapped(*args, attention_mask, **kwargs):
        lowest = torch.finfo(attention_mask.dtype).min
        plain = torch.zeros_like(attention_mask).masked_fill(attention_mask == lowest, lowest)
        return forward(*args, attention_mask=plain, **kwargs)

    return wrapped


def find_blocks(model):
    """The list of the model's blocks: the longest ModuleList of equal modules."""
    config = model.config.get_text_config()
    text = model if config is model.config else model.get_decoder()
    lists = [m for m in text.modules() if isinstance(m, torch.nn.ModuleList) and len({type(b) for b in m}) == 1]
    count = config.num_hidden_layers
    blocks = [m for m in lists if len(m) == count and any("ttention" in type(c).__name__ for c in m[0].modules())]
    assert len(blocks) == 1, f"{len(blocks)} lists of {count} blocks in {type(model).__name__}"
    return blocks[0]


def heed_mpt_fields(model):
    """transformers 5.23 has MPT's alibi_bias_max and logit_scale as fields and reads neither; the model's own code does.

    (llm-foundry: the slopes' largest exponent, and a factor of the logits or the word for 1 / sqrt(d_model).)
    """
    config = model.config
    if config.model_type == "mpt":
        model.transformer.build_mpt_alibi_tensor = functools.partial(
            model.transformer.build_mpt_alibi_tensor, alibi_bias_max=config.attn_config.alibi_bias_max
        )
        scale = 1 / math.sqrt(config.d_model) if config.logit_scale == "inv_sqrt_d_model" else config.logit_scale
        if scale is not None:
            model.lm_head.register_forward_hook(lambda _, __, logits: logits * scale)
    return model


def run_xglm_in_own_type(model):
    """XGLM's attention puts the lowest float64 into a tensor of torch's default type, float32, which throws."""
    if model.config.model_type == "xglm":
        for block in model.model.layers:
            block.self_attn.forward = with_default_type(block.self_attn.forward, model.dtype)
    return model


def with_default_type(forward, dtype):
    def wrapped(*args, **kwargs):
        usual = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            return forward(*args, **kwargs)
        finally:
            torch.set_default_dtype(usual)

    return wrapped


FINAL_NORMS = ("ln_f", "norm", "norm_f", "layer_norm", "final_layer_norm", "final_layernorm")


def find_final_norm(model, blocks):
    """The norm that follows the blocks, or None (OPT-350m)."""
    owner = next(m for m in model.modules() if any(c is blocks for c in m.children()))
    norms = [(name, m) for name, m in owner.named_children() if name in FINAL_NORMS]
    return norms[0][1] if norms and norms[0][1] is not None else None


@contextlib.contextmanager
def float64_steps(model, exact):
    """Where `exact`: softmax and `.to(float32)` of float64 tensors stay in float64, but inside rotary embeddings."""
    if not exact:
        yield
        return
    functional, tensor = torch.nn.functional, torch.Tensor
    softmax, to, to_float, type_ = functional.softmax, tensor.to, tensor.float, tensor.type
    inside_rotary = [0]

    def keeps(x):
        return x.dtype == torch.float64 and inside_rotary[0] == 0

    def exact_softmax(x, dim=None, dtype=None, **kwargs):
        return softmax(x, dim=dim, dtype=None if keeps(x) else dtype, **kwargs)

    def exact_to(x, *args, **kwargs):
        wants_float = torch.float32 in args or kwargs.get("dtype") == torch.float32
        return x if keeps(x) and wants_float else to(x, *args, **kwargs)

    def exact_float(x, *args, **kwargs):
        return x if keeps(x) else to_float(x, *args, **kwargs)

    def step(change):
        def hook(*_):
            inside_rotary[0] += change

        return hook

    handles = []
    for module in model.modules():
        if "RotaryEmbedding" in type(module).__name__:
            handles.append(module.register_forward_pre_hook(step(+1)))
            handles.append(module.register_forward_hook(step(-1)))
    functional.softmax, tensor.to, tensor.float = exact_softmax, exact_to, exact_float
    try:
        yield
    finally:
        functional.softmax, tensor.to, tensor.float, tensor.type = softmax, to, to_float, type_
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def softmax_inputs(num_tokens):
    """A list of what enters the softmax of the blocks' attentions, one after the other: (1, heads, n, n)."""
    functional = torch.nn.functional
    softmax, inputs = functional.softmax, []

    def noting(x, *args, **kwargs):
        if x.dim() in (3, 4) and x.shape[-2:] == (num_tokens, num_tokens):  # 3: XGLM
            inputs.append(x.reshape(1, -1, num_tokens, num_tokens).clone())
        return softmax(x, *args, **kwargs)

    functional.softmax = noting
    try:
        yield inputs
    finally:
        functional.softmax = softmax


def unmasked(scores):
    """float64, and -inf where a mask has put a number at the type's end (or added one there)."""
    return scores.double().masked_fill(scores < torch.finfo(torch.float32).min / 2, -torch.inf)


def run_prompt(model, ids, exact=False):
    """Forward of one prompt through a model of load_model."""
    blocks = find_blocks(model)
    norm = find_final_norm(model, blocks)
    inputs, outputs, final = {}, {}, {}

    def before(index):
        def hook(_, args, kwargs):
            inputs[index] = (args[0] if args else kwargs["hidden_states"]).clone()

        return hook

    def after(index):
        def hook(_, __, output):
            outputs[index] = (output[0] if isinstance(output, tuple) else output).clone()

        return hook

    handles = [blocks[0].register_forward_pre_hook(before(0), with_kwargs=True)]
    handles += [block.register_forward_hook(after(i)) for i, block in enumerate(blocks)]
    if norm is not None:
        handles.append(norm.register_forward_hook(lambda _, __, output: final.update(norm=output.clone())))
    try:
        with float64_steps(model, exact), softmax_inputs(len(ids)) as scores:
            result = model(input_ids=torch.tensor([list(ids)]), output_attentions=True, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    assert len(scores) == len(blocks), f"{len(scores)} softmaxes in {len(blocks)} blocks"
    boundaries = [inputs[0]] + [outputs[i] for i in range(len(blocks))]
    boundaries = [b.reshape(1, len(ids), -1) for b in boundaries]
    return Forward(
        attentions=torch.stack([a[0] for a in result.attentions]).double().numpy(),
        boundaries=torch.stack([b[0] for b in boundaries]).double().numpy(),
        final_norm=final.get("norm", boundaries[-1])[0].double().numpy(),
        logits=logits_of_text(model, result.logits[0]).double().numpy(),
        scores=torch.stack([unmasked(s[0]) for s in scores]).numpy(),
    )


def logits_of_text(model, logits):
    """Puts right what classes of more than text leave out: the text model's own factor (Cohere) and soft cap (Gemma) of its logits.

    transformers 5.23 takes the text model without its head, and applies the head alone; the text model's own class, with
    which it was trained, does both.
    """
    text = model.config.get_text_config()
    if text is model.config:
        return logits
    logits = logits * getattr(text, "logit_scale", 1.0)
    cap = getattr(text, "final_logit_softcapping", None)
    return logits if cap is None else torch.tanh(logits / cap) * cap


def remembers_lengths(config):
    """Whether the rotary tables of a prompt depend on the prompts before it, as transformers keeps them."""
    return any(kind in json.dumps(getattr(config.get_text_config(), "rope_parameters", None)) for kind in ("dynamic", "longrope"))


def oracle_forward(folder, prompts, exact=False, model=None):
    """Forward of each prompt (a list of token ids) alone, as if no other had run before it.

    `model` is load_model(folder), where the caller has it already (or wants it in float32).
    """
    model = model or load_model(folder)
    results = []
    for ids in prompts:
        fresh = load_model(folder, model.dtype) if remembers_lengths(model.config) else model
        results.append(run_prompt(fresh, ids, exact))
    return results


def attention_weights(folder, model=None):
    """W_Q, W_K, W_V, W_O of every layer, canonical: (H d, D), (K d, D), (K d, D), (D, H d). Float64 arrays.

    Sliced from the loaded modules by the rules of each family's modelling code, not by names in the file. `model` is
    load_model(folder), where the caller has it already.
    """
    model = model or load_model(folder)
    config = model.config.get_text_config()
    return [split_attention(config, block) for block in find_blocks(model)]


def split_attention(config, block):
    weight = {name: p.double() for name, p in block.named_parameters()}
    kind = config.model_type
    heads = config.num_attention_heads

    def find(ending):
        return next(w for name, w in weight.items() if name.endswith(ending))

    if kind == "gpt2":
        q, k, v = find("attn.c_attn.weight").T.chunk(3, dim=0)
        o = find("attn.c_proj.weight").T
    elif kind == "gpt_bigcode":
        fused = find("attn.c_attn.weight")
        hidden = fused.shape[1]
        d = hidden // heads
        if config.multi_query:
            q, k, v = fused.split((hidden, d, d))
        else:
            q, k, v = (part.reshape(-1, hidden) for part in fused.view(heads, 3 * d, hidden).split(d, dim=1))
        o = find("attn.c_proj.weight")
    elif kind == "codegen":
        fused = find("attn.qkv_proj.weight")
        hidden = fused.shape[1]
        q, v, k = (part.reshape(-1, hidden) for part in fused.view(4, -1, hidden).split(hidden // 4, dim=1))
        o = find("attn.out_proj.weight")
    elif kind == "mpt":
        q, k, v = find("attn.Wqkv.weight").chunk(3, dim=0)
        o = find("attn.out_proj.weight")
    elif kind in ("gpt_neox", "bloom", "falcon", "persimmon"):
        fused = find("query_key_value.weight")
        hidden = fused.shape[1]
        d = hidden // heads
        if kind == "falcon" and config.new_decoder_architecture:
            groups = fused.view(config.num_kv_heads, heads // config.num_kv_heads + 2, d, hidden)
            q, k, v = groups[:, :-2].reshape(-1, hidden), groups[:, -2].reshape(-1, hidden), groups[:, -1].reshape(-1, hidden)
        elif kind == "falcon" and config.multi_query:
            rows = fused.view(heads + 2, d, hidden)
            q, k, v = rows[:-2].reshape(-1, hidden), rows[-2], rows[-1]
        else:
            q, k, v = (part.reshape(-1, hidden) for part in fused.view(heads, 3, d, hidden).unbind(1))
        names = {"gpt_neox": "attention", "persimmon": "self_attn"}
        o = find(names.get(kind, "self_attention") + ".dense.weight")
    elif kind == "phi3":
        fused = find("qkv_proj.weight")
        d = getattr(config, "head_dim", None) or config.hidden_size // heads
        kv = config.num_key_value_heads * d
        q, k, v = fused[: heads * d], fused[heads * d : heads * d + kv], fused[heads * d + kv :]
        o = find("o_proj.weight")
    else:
        q, k, v = find("q_proj.weight"), find("k_proj.weight"), find("v_proj.weight")
        endings = ("self_attn.dense.weight",) if kind == "phi" else ("o_proj.weight", "out_proj.weight")
        o = next(w for name, w in weight.items() if name.endswith(endings))
    return {"W_Q": q.numpy(), "W_K": k.numpy(), "W_V": v.numpy(), "W_O": o.numpy()}


def mlp_weights(folder, model=None):
    """W_gate (of gated ones), W_up and W_down of every layer: (inner, D), (inner, D), (D, inner). Float64 arrays, as above."""
    model = model or load_model(folder)
    config = model.config.get_text_config()
    return [split_mlp(config, block) for block in find_blocks(model)]


def split_mlp(config, block):
    weight = {name: p.double() for name, p in block.named_parameters()}

    def find(ending):
        return next(w for name, w in weight.items() if name.endswith(ending + ".weight"))

    kind = config.model_type
    if kind == "gpt2":  # as (in, out)
        matrices = {"W_up": find("mlp.c_fc").T, "W_down": find("mlp.c_proj").T}
    elif kind in ("gpt_neo", "gpt_bigcode", "starcoder2"):
        matrices = {"W_up": find("mlp.c_fc"), "W_down": find("mlp.c_proj")}
    elif kind in ("gptj", "codegen"):
        matrices = {"W_up": find("mlp.fc_in"), "W_down": find("mlp.fc_out")}
    elif kind in ("biogpt", "opt", "phi", "xglm", "nanochat"):
        matrices = {"W_up": find("fc1"), "W_down": find("fc2")}
    elif kind in ("gpt_neox", "bloom", "falcon", "persimmon"):
        matrices = {"W_up": find("mlp.dense_h_to_4h"), "W_down": find("mlp.dense_4h_to_h")}
    elif kind in ("nemotron", "mpt", "arcee", "apertus"):
        matrices = {"W_up": find("up_proj"), "W_down": find("down_proj")}
    elif kind in ("phi3", "glm", "glm4"):
        gate, up = find("mlp.gate_up_proj").chunk(2, dim=0)
        matrices = {"W_gate": gate, "W_up": up, "W_down": find("mlp.down_proj")}
    else:
        matrices = {"W_gate": find("mlp.gate_proj"), "W_up": find("mlp.up_proj"), "W_down": find("mlp.down_proj")}
    return {name: matrix.numpy() for name, matrix in matrices.items()}


def lens_logits(model, ids, boundaries, exact=False):
    """[layers + 1, n, vocab]: what the model makes of each boundary [n, hidden] in the place of its last block's output. So the final
    norm, head, bias, scale and cap are the model's own code."""
    blocks = find_blocks(model)
    found = []
    for boundary in boundaries:
        hidden = torch.as_tensor(boundary, dtype=model.dtype)

        def instead(_, __, output, hidden=hidden):
            was = output[0] if isinstance(output, tuple) else output
            here = hidden.reshape(was.shape)
            return (here, *output[1:]) if isinstance(output, tuple) else here

        handle = blocks[-1].register_forward_hook(instead)
        try:
            with float64_steps(model, exact):
                result = model(input_ids=torch.tensor([list(ids)]), use_cache=False)
        finally:
            handle.remove()
        found.append(logits_of_text(model, result.logits[0]).double().numpy())
    return np.stack(found)


OUTPUT_ENDINGS = ("attn.c_proj", "attention.dense", "self_attention.dense", "attn.dense", "o_proj", "out_proj")
DOWN_ENDINGS = ("mlp.c_proj", "fc_out", "fc2", "dense_4h_to_h", "down_proj")


def linear_of(block, endings):
    """The module of a block that has one of the names."""
    found = [module for name, module in block.named_modules() if name.endswith(endings) and hasattr(module, "weight")]
    assert len(found) == 1, f"{len(found)} modules like {endings} in {type(block).__name__}"
    return found[0]


@contextlib.contextmanager
def silenced(modules):
    """Linear maps that give nothing."""
    kept = [(parameter, parameter.clone()) for module in modules for parameter in module.parameters()]
    for parameter, _ in kept:
        parameter.zero_()
    try:
        yield
    finally:
        for parameter, value in kept:
            parameter.copy_(value)


def norms_its_sums(config):
    """Whether a norm comes between a block's sums (OPT-350m, one kind of BLOOM), so that what a part adds is no difference."""
    return not getattr(config, "do_layer_norm_before", True) or getattr(config, "apply_residual_connection_post_layernorm", False)


def block_writes(model, ids, exact=False):
    """What attention and MLP of each block add to the residual: two of [layers, n, hidden]. Differences of the block's output with
    and without the part, which has norms and factors behind its last linear map in it."""
    blocks, num_tokens = find_blocks(model), len(ids)

    def outputs():
        return torch.as_tensor(run_prompt(model, ids, exact).boundaries[1:])

    linears = [(linear_of(block, OUTPUT_ENDINGS), linear_of(block, DOWN_ENDINGS)) for block in blocks]
    if norms_its_sums(model.config.get_text_config()):
        seen = {}
        handles = [module.register_forward_hook(lambda _, __, output, key=(layer, part): seen.update({key: output.clone()}))
                   for layer, pair in enumerate(linears) for part, module in enumerate(pair)]
        outputs()
        for handle in handles:
            handle.remove()
        return [np.stack([seen[layer, part].double().reshape(num_tokens, -1).numpy() for layer in range(len(blocks))]) for part in (0, 1)]
    whole, writes = outputs(), ([], [])
    for layer, (output, down) in enumerate(linears):
        with silenced([down]):
            without_mlp = outputs()[layer]
        with silenced([output, down]):
            without_both = outputs()[layer]
        writes[0].append((without_mlp - without_both).numpy())
        writes[1].append((whole[layer] - without_mlp).numpy())
    return [np.stack(of_layers) for of_layers in writes]


def log_softmax(scores):
    """Along the last axis, in extended precision."""
    scores = scores.astype(np.longdouble)
    shifted = scores - scores.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def relative_error(found, expected):
    """Largest difference over the largest expected value."""
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-300))


if __name__ == "__main__":
    import sys

    folder, prompts = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
    for ids, forward in zip(prompts, oracle_forward(folder, prompts)):
        norms = np.linalg.norm(forward.boundaries[:, -1], axis=-1)
        print(len(ids), "tokens, last token's norm at each boundary:", " ".join(f"{n:.6g}" for n in norms))
