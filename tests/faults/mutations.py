"""Damage to model folders that knows their structure: numbers, sizes, names, nesting, bytes, kinds of files.

`mutate(random, folder)` draws one to three mutations that fit the folder, applies them and returns their descriptions.
"""

import io
import json
import os
import pickletools
import struct
import zipfile

import numpy as np

NUMBERS = [
    0, -1, 1, 2, 3, 7, 64, 2**15, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**6, 10**9, 10**18, 10**30, 0.5, -0.0, 1e-300, 1e-40, 1e30,
    1e300, -1e300, float("nan"), float("inf"), float("-inf"),
]  # fmt: skip
VALUES = [*NUMBERS, *NUMBERS, None, True, False, "", "8", "nan", "x" * 10**5, [], {}, [1] * 1000, [[[]]], {"type": "x"}, "\x00", "\ud800"]
DEPTH = 100_000


def draw_value(random):
    value = random.choice(VALUES)
    return list(value) if isinstance(value, list) else dict(value) if isinstance(value, dict) else value


def draw_place(random, tree, wanted=lambda value: True):
    """A (container, key) of `tree`, at any depth; none if nothing is wanted."""
    places, stack = [], [tree]
    while stack:
        here = stack.pop()
        items = here.items() if isinstance(here, dict) else enumerate(here) if isinstance(here, list) else ()
        for key, value in items:
            if wanted(value):
                places.append((here, key))
            if isinstance(value, (dict, list)):
                stack.append(value)
    return random.choice(places) if places else None


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_json(path):
    return json.loads(path.read_text())


def write_json(path, tree):
    path.write_bytes(json.dumps(tree).encode("utf-8", "surrogatepass"))


def shown(value):
    text = repr(value)
    return text if len(text) < 60 else text[:40] + f"… ({len(text)})"


# ---- any JSON file

def json_number(random, path):
    tree = read_json(path)
    place = draw_place(random, tree, is_number)
    if place is None:
        return None
    there, key = place
    there[key] = random.choice(NUMBERS)
    write_json(path, tree)
    return f"{key} = {shown(there[key])}"


def json_value(random, path):
    tree = read_json(path)
    place = draw_place(random, tree)
    if place is None:
        return None
    there, key = place
    there[key] = draw_value(random)
    write_json(path, tree)
    return f"{shown(key)} = {shown(there[key])}"


def json_removed(random, path):
    tree = read_json(path)
    place = draw_place(random, tree)
    if place is None:
        return None
    there, key = place
    del there[key]
    write_json(path, tree)
    return f"without {shown(key)}"


def json_moved(random, path):
    """A subtree of the file stands where another was."""
    tree = read_json(path)
    first, second = draw_place(random, tree), draw_place(random, tree)
    if first is None:
        return None
    copy = json.loads(json.dumps(first[0][first[1]]))
    second[0][second[1]] = copy
    write_json(path, tree)
    return f"{shown(second[1])} is {shown(first[1])}"


def json_nested(random, path):
    """A value becomes a nest: of arrays or objects, closed or not."""
    text = path.read_text()
    depth = random.choice([65, 1000, DEPTH])
    opening, closing = random.choice([("[", "]"), ('{"a":', "}")])
    nest = opening * depth + ("1" + closing * depth if random.random() < 0.5 else "")
    at = [i for i, c in enumerate(text) if c == ":"]
    if not at:
        return None
    here = random.choice(at[:2000]) + 1
    path.write_text(text[:here] + nest + ("," if nest.endswith(closing) else "") + text[here:].split(",", 1)[-1])
    return f"{depth} {opening!r} at {here}"


def json_text(random, path):
    """No JSON, or a doubtful one."""
    text = path.read_bytes()
    kind = random.choice(["twice", "comment", "bom", "nul", "digits", "latin", "null", "array", "empty", "long key", "utf16"])
    changed = {
        "twice": lambda: text.replace(b"{", b'{"model_type": "gpt2", "model_type": "opt",', 1),
        "comment": lambda: b"// x\n" + text,
        "bom": lambda: b"\xef\xbb\xbf" + text,
        "nul": lambda: text.replace(b'"', b'"\x00', 1 + random.randrange(20)),
        "digits": lambda: text.replace(b"1", b"1" * 10**5, 1),
        "latin": lambda: text.replace(b"e", b"\xe4", 1 + random.randrange(30)),
        "null": lambda: b"null",
        "array": lambda: b"[" + text + b"]",
        "empty": lambda: b"",
        "long key": lambda: text.replace(b"{", b'{"' + b"k" * 10**6 + b'": 1,', 1),
        "utf16": lambda: text.decode().encode("utf-16"),
    }[kind]()
    path.write_bytes(changed)
    return kind


# ---- any file

def bytes_flipped(random, path, end=None):
    data = bytearray(path.read_bytes())
    if not data:
        return None
    count = random.choice([1, 2, 8, 64])
    for _ in range(count):
        data[random.randrange(min(len(data), end or len(data)))] = random.randrange(256)
    path.write_bytes(data)
    return f"{count} bytes"


def cut(random, path):
    data = path.read_bytes()
    size = random.choice([0, 1, 7, 8, 9, len(data) // 2, max(0, len(data) - 1), random.randrange(len(data) + 1)])
    path.write_bytes(data[:size])
    return f"to {size} of {len(data)} bytes"


def grown(random, path):
    data = path.read_bytes()
    path.write_bytes(data + random.randbytes(random.choice([1, 8, 4096])))
    return f"{path.stat().st_size - len(data)} bytes more"


def not_a_file(random, path):
    kind = random.choice(["fifo", "loop", "folder", "gone", "zero", "stdin", "dangling", "sparse", "unreadable"])
    if kind == "sparse":  # 64 GB of nothing behind what is there
        os.truncate(path, 64 << 30)
        return kind
    if kind == "unreadable":
        path.chmod(0)  # root reads it all the same
        return kind
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    elif kind == "stdin":
        path.symlink_to("/dev/stdin")
    elif kind == "dangling":
        path.symlink_to(path.with_name("nowhere"))
    return kind


# ---- config.json

def config_other_family(random, path):
    tree = read_json(path)
    family, name = random.choice([
        ("gpt2", "GPT2LMHeadModel"), ("gpt_neox", "GPTNeoXForCausalLM"), ("opt", "OPTForCausalLM"), ("llama", "LlamaForCausalLM"),
        ("gemma2", "Gemma2ForCausalLM"), ("gemma3_text", "Gemma3ForCausalLM"), ("bloom", "BloomForCausalLM"), ("phi3", "Phi3ForCausalLM"),
        ("falcon", "FalconForCausalLM"), ("gptj", "GPTJForCausalLM"), ("gpt_neo", "GPTNeoForCausalLM"), ("qwen3", "Qwen3ForCausalLM"),
        ("stablelm", "StableLmForCausalLM"), ("olmo2", "Olmo2ForCausalLM"), ("mixtral", "MixtralForCausalLM"),
        ("exaone4", "Exaone4ForCausalLM"), ("apertus", "ApertusForCausalLM"), ("olmo", "OlmoForCausalLM"), ("", ""),
    ])  # fmt: skip
    tree |= {"model_type": family, "architectures": [name]}
    write_json(path, tree)
    return family


def config_setting(random, path):
    """A field that some family reads, of some value."""
    rope = {
        "rope_type": random.choice(["default", "linear", "dynamic", "yarn", "llama3", "longrope", "su", "x", 3]),
        "factor": random.choice(NUMBERS), "rope_theta": random.choice([1e4, *NUMBERS]), "low_freq_factor": random.choice(NUMBERS),
        "high_freq_factor": random.choice(NUMBERS), "original_max_position_embeddings": random.choice([16, *NUMBERS]),
        "beta_fast": random.choice(NUMBERS), "short_factor": [random.choice(NUMBERS)] * random.choice([0, 2, 4, 1000]),
        "long_factor": [random.choice(NUMBERS)] * random.choice([0, 2, 4]), "partial_rotary_factor": random.choice(NUMBERS),
    }  # fmt: skip
    kept = {key: value for key, value in rope.items() if key == "rope_type" or random.random() < 0.6}
    settings = {
        "rope_scaling": kept, "rope_parameters": kept, "rope_theta": random.choice(NUMBERS), "sliding_window": random.choice(NUMBERS),
        "layer_types": [random.choice(["full_attention", "sliding_attention", "x"]) for _ in range(random.choice([0, 1, 2, 3, 5, 10**5]))],
        "attn_logit_softcapping": random.choice(NUMBERS), "final_logit_softcapping": random.choice(NUMBERS),
        "query_pre_attn_scalar": random.choice(NUMBERS), "quantization_config": draw_value(random), "head_dim": random.choice(NUMBERS),
        "partial_rotary_factor": random.choice(NUMBERS), "num_key_value_heads": random.choice(NUMBERS), "hidden_act": draw_value(random),
        "attention_layers": ["global"] * random.choice([0, 2, 10**5]), "attention_types": [[["global", "local"], random.choice(NUMBERS)]],
        "text_config": {"hidden_size": random.choice(NUMBERS)}, "tie_word_embeddings": draw_value(random), "alibi": draw_value(random),
        "multi_query": draw_value(random), "new_decoder_architecture": draw_value(random), "torch_dtype": draw_value(random),
        "scale_attn_by_inverse_layer_idx": draw_value(random), "layer_norm_epsilon": random.choice(NUMBERS), "rms_norm_eps": random.choice(NUMBERS),
        "sliding_window_pattern": random.choice(NUMBERS), "rotary_pct": random.choice(NUMBERS), "max_position_embeddings": random.choice(NUMBERS),
    }  # fmt: skip
    key = random.choice(sorted(settings))
    tree = read_json(path)
    if not isinstance(tree, dict):
        return None
    tree[key] = settings[key]
    write_json(path, tree)
    return f"{key} = {shown(settings[key])}"


# ---- safetensors

def split_safetensors(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def join_safetensors(path, header, data, size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode("utf-8", "surrogatepass")
    path.write_bytes(struct.pack("<Q", (len(text) if size is None else size) % 2**64) + text + data)


def header_entry(random, path):
    """A tensor's shape, place, type or name."""
    header, data = split_safetensors(path)
    name = random.choice([key for key in header if key != "__metadata__"])
    entry, other = header[name], random.choice([value for key, value in header.items() if key != "__metadata__"])
    large = [0, -1, 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, 1e300, 0.5, "3", None, 10**9]
    change = random.choice(["dimension", "rank", "shape", "offset", "swap", "overlap", "shift", "dtype", "rename", "remove", "field", "many dims", "product"])
    if change == "dimension" and entry["shape"]:
        entry["shape"][random.randrange(len(entry["shape"]))] = random.choice(large)
    elif change == "rank":
        entry["shape"] = random.choice([[], [1, *entry["shape"]], entry["shape"][:-1], [int(np.prod(entry["shape"]))]])
    elif change == "shape":
        entry["shape"] = entry["shape"][::-1]
    elif change == "offset":
        entry["data_offsets"][random.randrange(2)] = random.choice(large)
    elif change == "swap":
        entry["data_offsets"] = entry["data_offsets"][::-1]
    elif change == "overlap":
        entry["data_offsets"] = list(other["data_offsets"])
    elif change == "shift":
        entry["data_offsets"] = [offset + random.choice([1, -1, 2]) for offset in entry["data_offsets"]]
    elif change == "dtype":
        entry["dtype"] = random.choice(["F64", "F32", "F16", "BF16", "I8", "U8", "I64", "BOOL", "F8_E4M3", "F4", "", "x" * 10**4, 3, None])
    elif change == "rename":
        header[random.choice(["", "x", name + "\x00", "n" * 10**5, "\ud800", "../" + name])] = header.pop(name)
    elif change == "remove":
        del header[name]
    elif change == "field":
        place = draw_place(random, entry)
        place[0][place[1]] = draw_value(random)
    elif change == "many dims":
        entry["shape"] = [1] * random.choice([9, 65, 10**5]) + entry["shape"]
    else:
        entry["shape"] = random.choice([[2**32, 2**32], [2**63, 2], [2**21, 2**21, 2**22], [0, 2**63], [2**64 // 4, 4]])
    join_safetensors(path, header, data)
    return f"{shown(name)}: {change} {shown(header.get(name))}"


def header_whole(random, path):
    header, data = split_safetensors(path)
    text = json.dumps(header).encode()
    kind = random.choice(["size", "tensors", "metadata", "twice", "nested", "flipped", "padding", "array", "long names"])
    if kind == "size":
        size = random.choice([0, 1, 2, len(text) - 1, len(text) + 1, len(text) + len(data), 2**31, 2**40, 2**63, 2**64 - 1, 2**64 - 8])
        join_safetensors(path, text, data, size)
        return f"size {size}"
    if kind == "tensors":
        count = random.choice([1000, 30_000, 200_000])
        header |= {f"e{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(count)}
        join_safetensors(path, header, data)
        return f"{count} tensors more"
    if kind == "metadata":
        header["__metadata__"] = random.choice([3, [], {"a": 1}, {"a": {"b": []}}, {f"k{i}": "v" for i in range(10**5)}])
        join_safetensors(path, header, data)
    elif kind == "twice":
        name = random.choice(list(header))
        join_safetensors(path, text[:-1] + b"," + json.dumps({name: header[name]}).encode()[1:], data)
    elif kind == "nested":
        depth = random.choice([65, 1000, DEPTH])
        join_safetensors(path, text[:-1] + b',"deep":' + b"[" * depth + b"]" * depth + b"}", data)
    elif kind == "flipped":
        join_safetensors(path, text, data)
        return f"header, {bytes_flipped(random, path, 8 + len(text))}"
    elif kind == "padding":
        join_safetensors(path, text + b" " * random.choice([1, 7, 10**6]), data)
    elif kind == "array":
        join_safetensors(path, b"[" + text + b"]", data)
    else:
        header |= {"n" * 10**5 + str(i): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(50)}
        join_safetensors(path, header, data)
    return kind


def weights(random, path):
    """Numbers that no training leaves: in one element, a row, a tensor, or in all."""
    header, data = split_safetensors(path)
    data = bytearray(data)
    names = [key for key, value in header.items() if key != "__metadata__" and value["dtype"] in ("F16", "BF16", "F32")]
    if not names:
        return None
    value = random.choice([float("nan"), float("inf"), float("-inf"), 1e30, -1e30, 1e20, 3e38, 0.0, 1e-40])
    chosen = names if random.random() < 0.2 else [random.choice(names)]
    part = random.choice(["element", "tensor", "scaled"])
    for name in chosen:
        begin, end = header[name]["data_offsets"]
        kind = header[name]["dtype"]
        view = np.frombuffer(data, dtype={"F16": "<f2", "F32": "<f4", "BF16": "<u2"}[kind], count=(end - begin) // {"F16": 2, "F32": 4, "BF16": 2}[kind], offset=begin)
        with np.errstate(over="ignore", invalid="ignore"):
            if kind == "BF16":
                values = (view.astype("<u4") << 16).view("<f4").copy()
            else:
                values = view.astype("<f4")
            if part == "element":
                values[random.randrange(values.size)] = value
            elif part == "tensor":
                values[:] = value
            else:
                values *= np.float32(value)
            view[:] = (values.view("<u4") >> 16).astype("<u2") if kind == "BF16" else values.astype(view.dtype)
    join_safetensors(path, header, bytes(data))
    return f"{part} {value} in {chosen[0] if len(chosen) == 1 else 'all tensors'}"


# ---- torch's archives

def read_zip(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(path, entries, deflated=()):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data, zipfile.ZIP_DEFLATED if name in deflated else zipfile.ZIP_STORED)


def pickle_of(entries):
    return next(name for name in entries if name.endswith("data.pkl"))


def pickle_numbers(random, path):
    entries = read_zip(path)
    name = pickle_of(entries)
    data = bytearray(entries[name])
    places = [(op, at) for op, argument, at in pickletools.genops(bytes(data)) if op.name in ("BININT", "BININT1", "BININT2", "LONG1", "BINPUT", "BINGET")]
    for _ in range(random.choice([1, 2, 5])):
        op, at = random.choice(places)
        width = {"BININT": 4, "BININT1": 1, "BININT2": 2, "BINPUT": 1, "BINGET": 1, "LONG1": 1}[op.name]
        data[at + 1 : at + 1 + width] = random.choice([b"\xff" * width, b"\x00" * width, random.randbytes(width), b"\x7f".rjust(width, b"\xff")])
    write_zip(path, entries | {name: bytes(data)})
    return op.name


def pickle_opcodes(random, path):
    """Opcodes left out, twice, or in other places."""
    entries = read_zip(path)
    name = pickle_of(entries)
    starts = [at for _, _, at in pickletools.genops(entries[name])] + [len(entries[name])]
    pieces = [entries[name][a:b] for a, b in zip(starts, starts[1:])]
    kind = random.choice(["left out", "twice", "exchanged", "many"])
    at = random.randrange(1, len(pieces) - 1)
    if kind == "left out":
        del pieces[at]
    elif kind == "twice":
        pieces.insert(at, pieces[at])
    elif kind == "exchanged":
        other = random.randrange(1, len(pieces) - 1)
        pieces[at], pieces[other] = pieces[other], pieces[at]
    else:
        pieces[at:at] = [pieces[at]] * random.choice([100, 100_000])
    write_zip(path, entries | {name: b"".join(pieces)})
    return f"opcode {kind}"


def pickle_bomb(random, path):
    entries = read_zip(path)
    name = pickle_of(entries)
    kind = random.choice(["tuples", "lists", "memo", "doubled", "reduce", "text", "recursive", "deflated", "flipped", "global"])
    data = {
        "tuples": lambda: b"\x80\x02)" + b"\x85" * DEPTH + b".",
        "lists": lambda: b"\x80\x02" + b"]" * DEPTH + b"a" * (DEPTH - 1) + b".",
        "memo": lambda: b"\x80\x02" + b"".join(b"]r" + struct.pack("<I", i * 40_000_000) for i in range(100)) + b".",
        "doubled": lambda: b"\x80\x02]q\x00" + b"(h\x00h\x00lq\x00" * 60 + b".",
        "reduce": lambda: b"\x80\x02]q\x01(" + b"K\x01K\x02\x86" * 50 + b"e0" + b"ccollections\nOrderedDict\nh\x01\x85R" * 20_000 + b".",
        "text": lambda: b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"x" * 100,
        "recursive": lambda: b"\x80\x02]q\x00h\x00a.",
        "deflated": lambda: entries[name] + b"\x00" * 300_000_000,
        "flipped": lambda: bytes(random.randrange(256) if random.random() < 0.01 else byte for byte in entries[name]),
        "global": lambda: entries[name].replace(b"torch._utils\n_rebuild_tensor_v2", random.choice([b"os\nsystem", b"torch._utils\n_rebuild_parameter"])),
    }[kind]()
    write_zip(path, entries | {name: data}, deflated=(name,) if kind == "deflated" else ())
    return kind


def zip_structure(random, path):
    data = bytearray(path.read_bytes())
    kind = random.choice(["directory", "local", "entry gone", "entry twice", "entry short", "names"])
    if kind in ("directory", "local"):
        mark = b"PK\x01\x02" if kind == "directory" else b"PK\x03\x04"
        places = [i for i in range(len(data) - 46) if data[i : i + 4] == mark]
        for _ in range(random.choice([1, 3])):
            at = random.choice(places)
            data[at + random.randrange(4, 46)] = random.choice([0, 0xFF, random.randrange(256)])
        path.write_bytes(data)
        return kind
    entries = read_zip(path)
    name = random.choice(list(entries))
    if kind == "entry gone":
        del entries[name]
    elif kind == "entry short":
        entries[name] = entries[name][: len(entries[name]) // 2]
    elif kind == "names":
        entries[random.choice(["../../x", "/etc/x", "n" * 60_000, ""])] = entries.pop(name)
    if kind == "entry twice":
        with io.BytesIO() as text:
            with zipfile.ZipFile(text, "w") as archive:
                for entry, content in [*entries.items(), (name, b"x")]:
                    info = zipfile.ZipInfo(entry)
                    archive.writestr(info, content)
            path.write_bytes(text.getvalue())
    else:
        write_zip(path, entries)
    return f"{kind}: {shown(name)}"


# ---- index.json

def index_entry(random, path):
    tree = read_json(path)
    names = tree["weight_map"]
    name = random.choice(list(names))
    there = names[name]
    names[name] = random.choice([
        "nowhere.safetensors", "../" + there, "/dev/zero", "/etc/passwd", "n" * 300, "n" * 10**5, "", ".", "..", there + "\x00", there.upper(),
        random.choice(list(names.values())), 3, None, [there], "config.json", "tokenizer.json", "\ud800", path.name,
    ])  # fmt: skip
    write_json(path, tree)
    return f"{name} in {shown(names[name])}"


def index_size(random, path):
    tree = read_json(path)
    count = random.choice([0, 1, 10**5])
    shard = next(iter(tree["weight_map"].values()))
    if count < 2:
        tree["weight_map"] = dict(list(tree["weight_map"].items())[:count])
    else:
        tree["weight_map"] |= {f"more{i}": f"{i}-{shard}" if random.random() < 0.5 else shard for i in range(count)}
    write_json(path, tree)
    return f"{len(tree['weight_map'])} tensors"


# ---- tokenizer.json

def tokenizer_part(random, path):
    tree = read_json(path)
    part = random.choice(["normalizer", "pre_tokenizer", "post_processor"])
    replace = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    pattern = random.choice(["(a+)+$", "(a|aa)+$", "(?:a{1000}){1000}", "a{65535}", "(" * 1000 + "a" + ")" * 1000, "(?<=a+)b", "[", "", "\\p{x}", "(?=a)*", "(.*)*\\1",
                             "\\X", "(?i)" + "ß" * 1000, "a" * 10**6])  # fmt: skip
    options = {
        "normalizer": [
            {"type": "Sequence", "normalizers": [replace] * random.choice([5, 40, 64])}, {"type": "Replace", "pattern": {"Regex": pattern}, "content": "b"},
            {"type": "Replace", "pattern": {"String": ""}, "content": "x"}, {"type": "Prepend", "prepend": "a" * 10**6}, {"type": "NFKC"},
            {"type": "Precompiled", "precompiled_charsmap": "AAAA" * random.choice([1, 1000])}, {"type": "Strip", "strip_left": 1}, {"type": "x"},
        ],
        "pre_tokenizer": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": random.choice(["Isolated", "Removed", "x"]), "invert": random.random() < 0.5},
            {"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated", "invert": False}, {"type": "Metaspace", "replacement": "a" * 1000},
            {"type": "Digits", "individual_digits": True}, {"type": "Sequence", "pretokenizers": []},
        ],
        "post_processor": [
            {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}] * random.choice([1, 10**5]) + [{"Sequence": {"id": "A", "type_id": 0}}],
             "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [random.choice([0, -1, 10**9, 2**40])] * random.choice([0, 1, 10**5]), "tokens": ["<s>"]}}},
            {"type": "RobertaProcessing", "sep": ["x", -1], "cls": ["y", 2**40]}, {"type": "x"},
        ],
    }[part]  # fmt: skip
    tree[part] = random.choice(options)
    write_json(path, tree)
    return f"{part} {shown(tree[part])}"


def tokenizer_nested(random, path):
    part, inner = random.choice([("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers"), ("post_processor", "processors")])
    depth = random.choice([20, 30_000, DEPTH])
    nest = f'{{"type": "Sequence", "{inner}": [' * depth + '{"type": "NFC"}' + "]}" * depth
    tree = read_json(path)
    tree[part] = "HERE"
    path.write_text(json.dumps(tree).replace('"HERE"', nest, 1))
    return f"{part}, {depth} deep"


def tokenizer_model(random, path):
    tree = read_json(path)
    model = tree["model"]
    vocab, merges = model["vocab"], model["merges"]
    kind = random.choice(["type", "ids", "merges", "merge twice", "merge order", "long token", "many", "unk", "added", "many added", "flags", "empty", "chain"])
    if kind == "type":
        model["type"] = random.choice(["Unigram", "WordPiece", "WordLevel", "x", 3])
    elif kind == "ids":
        for token in random.sample(list(vocab), random.choice([1, 100])):
            vocab[token] = random.choice([-1, 0, 2**31, 2**40, 10**9, 0.5, "3", None])
    elif kind == "merges":
        for _ in range(20):
            merges[random.randrange(len(merges))] = random.choice(["", "a", "a b c", ["a"], ["a", "b", "c"], ["zz", "qq"], 3, None, "a" * 10**5, ["", ""]])
    elif kind == "merge twice":
        merges += merges
    elif kind == "merge order":
        random.shuffle(merges)
    elif kind == "long token":
        vocab["a" * 10**6] = 5
    elif kind == "many":
        vocab |= {f"t{i}": 2000 + i for i in range(10**5)}
    elif kind == "unk":
        model["unk_token"] = random.choice(["nowhere", 3, "", None])
    elif kind == "added":
        tree["added_tokens"].append({"id": random.choice([0, -1, 5, 2**31, 2**40]), "content": random.choice(["", "a", " ", "\x00", "a" * 10**6]), "single_word": True,
                                     "lstrip": True, "rstrip": True, "normalized": random.random() < 0.5, "special": True})  # fmt: skip
    elif kind == "many added":
        tree["added_tokens"] += [{"id": 5000 + i, "content": "a" * (1 + i % 500), "special": False, "normalized": False, "lstrip": False, "rstrip": False, "single_word": False} for i in range(20_000)]
    elif kind == "flags":
        model |= {"dropout": random.choice([0.5, 2, float("nan")]), "byte_fallback": draw_value(random), "continuing_subword_prefix": draw_value(random)}
    elif kind == "empty":
        model["vocab"], model["merges"] = {}, random.choice([[], merges])
    else:  # a, aa, aaaa, …: tokens that double
        for i in range(20):
            vocab["a" * 2 ** (i + 1)] = 1024 + i
            merges.append(["a" * 2**i, "a" * 2**i])
    write_json(path, tree)
    return kind


JSON = [json_number, json_value, json_removed, json_moved, json_nested, json_text]
RAW = [bytes_flipped, cut, grown, not_a_file]


def matching(folder, *patterns):
    return sorted(path for pattern in patterns for path in folder.glob(pattern))


# What there is to damage: label, files that it fits, mutations with weights of how often they are drawn.
TARGETS = [
    ("config", 5, ["config.json"], [json_number] * 6 + JSON + [config_setting] * 6 + [config_other_family] * 2 + RAW),
    ("safetensors", 4, ["*.safetensors"], [header_entry] * 5 + [header_whole] * 3 + RAW),
    ("weights", 2, ["*.safetensors"], [weights]),
    ("index", 1, ["*.index.json"], [index_entry] * 4 + [index_size] + JSON + RAW),
    ("torch", 4, ["*.bin"], [pickle_numbers] * 2 + [pickle_opcodes] * 2 + [pickle_bomb] * 4 + [zip_structure] * 4 + RAW),
    ("tokenizer", 3, ["tokenizer.json"], [tokenizer_part] * 4 + [tokenizer_nested] + [tokenizer_model] * 4 + JSON + RAW),
]


def mutate_once(random, folder):
    """One mutation; none where what was drawn does not fit (a file that is damaged already)."""
    fitting = [target for target in TARGETS if matching(folder, *target[2])]
    label, _, patterns, mutations = random.choices(fitting, [target[1] for target in fitting])[0]
    path, mutation = random.choice(matching(folder, *patterns)), random.choice(mutations)
    if path.is_symlink() or not path.is_file() or path.stat().st_size > 1 << 28:
        return None
    try:
        said = mutation(random, path)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, StopIteration, zipfile.BadZipFile, RecursionError, struct.error):
        return None  # what the mutation before has made is not of the form that this one changes
    return f"{label} {mutation.__name__} ({path.name}: {said})" if said is not None else None


def mutate(random, folder):
    wanted, done = random.choice([1, 1, 1, 2, 3]), []
    for _ in range(20):
        said = mutate_once(random, folder)
        if said:
            done.append(said)
        if len(done) == wanted:
            break
    return done
