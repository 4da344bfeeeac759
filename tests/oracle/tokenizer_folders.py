"""Random tokenizer folders as people have them, against transformers' AutoTokenizer.

Folders of the slow classes (vocab.json and merges.txt) and of tokenizer.json, with tokenizer_config.json, special_tokens_map.json,
added_tokens.json and config.json beside them, which agree or do not. Called by tokenizers_differential.py --folders.
"""

import contextlib
import io
import json
import pathlib
import random
import subprocess
import tempfile

import transformers

END = "<|endoftext|>"
NAMED = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"]
CONTENTS = [END, "<s>", "</s>", "<unk>", "<pad>", "<mask>", "<|im_start|>", "<|im_end|>", "<tool>", " word", "hello", "é", "  ", "<|padding|>", "\n\n", "12", "don't"]  # fmt: skip
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN3_5 = QWEN2.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]+", r"[^\s\p{L}\p{M}\p{N}]+")
SLOW = {
    "GPT2Tokenizer": ["gpt2", "gptj", "gpt_neo", "opt", "starcoder2", "phi", "codegen"],
    "CodeGenTokenizer": ["phi", "codegen", "gptj"],
    "Qwen2Tokenizer": ["qwen2", "qwen3", "qwen2_moe", "qwen3_moe"],
    "Qwen3_5Tokenizer": ["qwen3_5_text"],
    "GPTNeoXTokenizer": ["gpt_neox", "olmo"],
    "RobertaTokenizer": ["roberta", "gpt2"],
}  # fmt: skip
TEXTS = ["", "Hello world", " leading", "it's 12345 don't IT'S", "e\u0301te\u0301 é", "tabs\t\tand\n\n\nlines\r\n", "日本語 हिन्दी", "a<|im_start|>user\nhi<|im_end|> b"]  # fmt: skip


def token(rng, content, mark):
    """A token with flags, as an object."""
    flags = {"lstrip": rng.random() < 0.2, "rstrip": rng.random() < 0.2, "single_word": rng.random() < 0.15}
    value = {"content": content, **flags, "normalized": rng.random() < 0.4}
    if mark:
        value["__type"] = "AddedToken"
    return value


def mention(rng, content, mark=True):
    return content if rng.random() < 0.6 else token(rng, content, mark)


def some(rng, most=4):
    return rng.sample(CONTENTS, rng.randrange(most + 1))


def special_tokens(rng, names):
    config = {}
    for name in names:
        if rng.random() < 0.35:
            config[name] = None if rng.random() < 0.1 else mention(rng, rng.choice(CONTENTS))
    return config


def decoder_entry(rng, content):
    return {**token(rng, content, False), "special": rng.random() < 0.6}


def make_config(rng, listed, num_tokens, may_contradict):
    """tokenizer_config.json. `listed` are tokenizer.json's added tokens."""
    config = special_tokens(rng, NAMED)
    if rng.random() < 0.4:
        start = rng.choice([0, num_tokens, num_tokens, num_tokens + 3]) if may_contradict else num_tokens
        step = rng.choice([1, 1, 1, 2])
        entries = {t["id"]: {k: v for k, v in t.items() if k != "id"} for t in listed}
        known = {t["content"] for t in listed}
        place = start + len(listed)
        for content in some(rng, 5):
            if content not in known:
                entries[place] = decoder_entry(rng, content)
                place += step
        config["added_tokens_decoder"] = {str(i): entry for i, entry in sorted(entries.items())}
    if rng.random() < 0.25:
        config["additional_special_tokens"] = [mention(rng, c) for c in some(rng, 3)]
    if rng.random() < 0.15:
        config["extra_special_tokens"] = [mention(rng, c) for c in some(rng, 3)] if rng.random() < 0.6 else {f"{n}_token": c for n, c in zip("zyx", some(rng, 3))}  # fmt: skip
    if rng.random() < 0.15:
        config["image_token"] = mention(rng, rng.choice(CONTENTS + ["<image>"]))
        config["audio_token"] = "<audio>"
    for flag in ("add_bos_token", "add_eos_token", "add_prefix_space"):
        if rng.random() < 0.25:
            config[flag] = rng.random() < 0.5
    keys = list(config)
    rng.shuffle(keys)
    return {key: config[key] for key in keys}


def make_map(rng):
    """special_tokens_map.json, whose objects have no "__type"."""
    result = {}
    for name in NAMED:
        if rng.random() < 0.35:
            result[name] = mention(rng, rng.choice(CONTENTS), mark=False)
    if rng.random() < 0.3:
        result["additional_special_tokens"] = some(rng, 3)
    return result


def make_added(rng, num_tokens, is_sparse):
    ids = rng.sample(range(2 * num_tokens), 6) if is_sparse else list(range(num_tokens, num_tokens + 6))
    return dict(zip(some(rng, 5), ids))


def model_with(rng, base):
    """The vocabulary, perhaps with special tokens before or after the others."""
    vocab, merges = dict(base["vocab"]), base["merges"]
    first = rng.choice([[], ["<s>", "<pad>", "</s>", "<unk>"], [END, "<|padding|>"]])
    last = rng.choice([[], [END], ["<|im_end|>"]])
    last = [t for t in last if t not in first]
    shifted = {t: i for i, t in enumerate(first)} | {t: i + len(first) for t, i in vocab.items()}
    return shifted | {t: len(shifted) + i for i, t in enumerate(last)}, merges


def class_steps(name, prefix_space):
    byte_level = {"type": "ByteLevel", "add_prefix_space": prefix_space, "trim_offsets": True, "use_regex": True}
    nfc = {"type": "NFC"}
    if name.startswith("Qwen"):
        pattern = QWEN2 if name == "Qwen2Tokenizer" else QWEN3_5
        cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        return nfc, {"type": "Sequence", "pretokenizers": [cut, {**byte_level, "use_regex": False}]}
    return (nfc if name == "GPTNeoXTokenizer" else None), byte_level


def make_folder(rng, folder, base):
    """Writes the files; returns what they are, for messages."""
    vocab, merges = model_with(rng, base)
    name = rng.choice(list(SLOW))
    is_slow = name != "Qwen3_5Tokenizer" and rng.random() < 0.5
    named = rng.choice([name, name, name + "Fast", None])
    if not is_slow and rng.random() < 0.4:
        named = "PreTrainedTokenizerFast"
    model_type = rng.choice(SLOW[name])
    listed = []
    if is_slow:
        (folder / "vocab.json").write_text(json.dumps(vocab))
        (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), newline="\n")
    else:
        normalizer, pre_tokenizer = class_steps(name, rng.random() < 0.2)
        spec = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": normalizer}
        spec |= {"pre_tokenizer": pre_tokenizer, "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}}  # fmt: skip
        spec["model"] = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": [list(m) for m in merges]}  # fmt: skip
        next_id = len(vocab)
        for content in some(rng):
            place = vocab.get(content, next_id)
            next_id += content not in vocab
            listed.append({"id": place, **decoder_entry(rng, content)})
        spec["added_tokens"] = sorted(listed, key=lambda t: t["id"])
        (folder / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")
    config = make_config(rng, listed, len(vocab), is_slow or (named == "PreTrainedTokenizerFast" and model_type != "qwen2")) if rng.random() < 0.85 else None
    if config is not None:
        if named:
            config["tokenizer_class"] = named
        (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")
    if rng.random() < 0.4:
        (folder / "special_tokens_map.json").write_text(json.dumps(make_map(rng), ensure_ascii=False), encoding="utf-8")
    if rng.random() < 0.3:
        added = make_added(rng, len(vocab) + len(listed), is_sparse=is_slow and rng.random() < 0.3)
        (folder / "added_tokens.json").write_text(json.dumps(added, ensure_ascii=False), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return f"{name} named {named}, {model_type}, {'slow' if is_slow else 'tokenizer.json'}"


def texts_of(rng, count):
    texts = list(TEXTS)
    while len(texts) < count:
        parts = []
        for _ in range(rng.randrange(1, 7)):
            parts.append(rng.choice(CONTENTS + ["<image>", "<audio>", "the", "Hello", "x1", "…", " ", "\n", "ß3"]))
            if rng.random() < 0.5:
                parts.append(rng.choice([" ", "  ", "\t"]))
        texts.append("".join(parts))
    return texts


def answers(program, folder, texts):
    """spectrace's ids, its warnings; None and the error where it refuses."""
    file = folder / "lines.txt"
    file.write_text("".join(json.dumps(t, ensure_ascii=False) + "\n" for t in texts), encoding="utf-8", newline="\n")
    done = subprocess.run([program, folder, file, "--json"], capture_output=True, text=True, encoding="utf-8")
    if done.returncode != 0:
        return None, done.stderr.strip()
    rows = [[int(i) for i in row.split()] if not row.startswith("error") else row for row in done.stdout.split("\n")[:-1]]
    return rows, [line for line in done.stderr.split("\n") if line.startswith("warning")]


def expected(tokenizer, text):
    try:
        return tokenizer(text)["input_ids"]
    except BaseException as error:  # a panic inside the library: no answer
        if isinstance(error, KeyboardInterrupt):
            raise
        return None


def load(folder):
    with contextlib.redirect_stderr(io.StringIO()):
        return transformers.AutoTokenizer.from_pretrained(folder)


def run(build, program, num_folders, seed):
    """How many folders have other ids than transformers'."""
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    base = build.byte_level_bpe({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True})["model"]
    counts = {"same": 0, "differ": 0, "other ids with a warning": 0, "refused": 0, "refused by both": 0, "refused by transformers": 0}
    for number in range(num_folders):
        rng = random.Random(f"{seed} {number}")
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            what = make_folder(rng, folder, base)
            texts = texts_of(rng, 40)
            got, said = answers(program, folder, texts)
            try:
                tokenizer = load(folder)
            except Exception:
                counts["refused by both" if got is None else "refused by transformers"] += 1
                continue
            want = [expected(tokenizer, text) for text in texts]
            if got is None:
                counts["refused"] += 1
                print(f"{number}: {what}: refused: {said}", flush=True)
                continue
            if all(b is None or a == b for a, b in zip(got, want)):
                counts["same"] += 1
                continue
            if any("transformers 5: the latter" in line or "tokenizer.json counts" in line or "a text, which counts (" in line for line in said):
                counts["other ids with a warning"] += 1
                continue
            counts["differ"] += 1
            if counts["differ"] <= 5:
                place = next(i for i, (a, b) in enumerate(zip(want, got)) if a is not None and a != b)
                print(f"{number}: {what}: {texts[place]!r}\n  expected {want[place]}\n  got      {got[place]}\n  {said}", flush=True)
    print(", ".join(f"{count} {kind}" for kind, count in counts.items() if count))
    return counts["differ"] + counts["refused"]


# Small folders that the unit tests compare ----------------------------------------------------------------------------

IM_START = {"content": "<|im_start|>", "lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}
RIGHT = {**IM_START, "content": "<right>", "rstrip": True}
WORD = {**IM_START, "content": "word", "single_word": True, "normalized": True, "special": False}
AS_OBJECT = {"__type": "AddedToken"}
GOLDEN = {
    # name: (class of tokenizer.json's steps or None for vocab.json + merges.txt, model_type, other files)
    "qwen2_slow": (None, "qwen2", {"tokenizer_config": {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": {"295": IM_START}, "bos_token": None}}),
    "qwen2_fast_name": (None, "qwen3", {"tokenizer_config": {"tokenizer_class": "Qwen2TokenizerFast"}}),
    "qwen2_by_model_type": (None, "qwen2", {}),
    "qwen2_named_gpt2": (None, "qwen2", {"tokenizer_config": {"tokenizer_class": "GPT2Tokenizer"}}),
    "gpt2_named_qwen2": (None, "gpt2", {"tokenizer_config": {"tokenizer_class": "Qwen2Tokenizer"}}),
    "gpt2_slow": (None, "gpt2", {"tokenizer_config": {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}}),
    "codegen_slow": (None, "phi", {"tokenizer_config": {"tokenizer_class": "CodeGenTokenizer", "add_bos_token": True}}),
    "neox_slow": (None, "gpt_neox", {}),
    "roberta_slow": (None, "gpt2", {"tokenizer_config": {"tokenizer_class": "RobertaTokenizer"}}),
    "class_of_config": (None, "opt", {"config": {"tokenizer_class": "Qwen2Tokenizer"}}),
    "added_tokens_file": (None, "gptj", {"added_tokens": {"<|b|>": 296, "<|a|>": 295, "word": 297}, "special_tokens_map": {"pad_token": "<|a|>"}}),
    "added_tokens_sparse": (None, "gptj", {"added_tokens": {"<|b|>": 900, "word": 400, "he": 3, "<|endoftext|>": 294}}),
    "ids_of_decoder": (None, "gpt2", {"special_tokens_map": {"bos_token": "<s>", "pad_token": "<pad>"}, "tokenizer_config": {"bos_token": "<s>", "pad_token": "<pad>", "added_tokens_decoder": {"295": {**IM_START, "content": "<pad>"}, "296": {**IM_START, "content": "<s>"}}}}),
    "ids_that_contradict": (None, "gpt2", {"tokenizer_config": {"added_tokens_decoder": {"7": IM_START, "400": WORD}}}),
    "map_counts": (None, "opt", {"special_tokens_map": {"bos_token": "</s>"}, "tokenizer_config": {"bos_token": "<s>", "add_bos_token": True, "add_eos_token": True, "eos_token": "<s>"}}),
    "pad_is_eos": (None, "gpt2", {"special_tokens_map": {"pad_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}}),
    "json_decoder_adds": ("PreTrained", "llama", {"tokenizer_config": {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": {"295": IM_START, "296": RIGHT, "297": WORD}}}),
    "json_named_tokens": ("PreTrained", "llama", {"tokenizer_config": {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": {**AS_OBJECT, **RIGHT}, "pad_token": "<pad>", "additional_special_tokens": ["<|im_start|>", {**AS_OBJECT, **WORD}]}}),
    "json_extra_in_order": ("PreTrained", "llama", {"tokenizer_config": {"tokenizer_class": "PreTrainedTokenizerFast", "z_token": "<z>", "a_token": "<a>", "extra_special_tokens": {"y": "<y>", "b": "<b>"}}}),
    "json_map_of_objects": ("PreTrained", "llama", {"special_tokens_map": {"eos_token": {k: v for k, v in RIGHT.items() if k != "special"}, "additional_special_tokens": ["<|im_start|>"]}}),
    "json_added_tokens_file": ("PreTrained", "llama", {"added_tokens": {"word": 295, "<|im_start|>": 296}}),
    "json_class_adds_defaults": ("GPTNeoXTokenizer", "gpt_neox", {}),
    "json_prefix_space": ("GPT2Tokenizer", "gpt2", {"tokenizer_config": {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}}),
    "json_flags_unheard": ("PreTrained", "mistral", {"tokenizer_config": {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": True, "legacy": True}}),
    "json_unknown_class": ("PreTrained", "llama", {"tokenizer_config": {"tokenizer_class": "SomebodysTokenizer"}}),
}  # fmt: skip
GOLDEN_TEXTS = ["hello word", " hello  word1234", "It's IT'S don't", "e\u0301 é\n\n x", "<|endoftext|>he<|im_start|> a<right>  b", "<s>x</s><pad><|a|><|b|><unk>", "words word", "<z><a><y><b><|padding|>"]  # fmt: skip


def golden_vocabulary():
    """GPT-2's 256 bytes, and merges that show where pieces end."""
    from tokenizers import pre_tokenizers

    vocab = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = "h e|l l|he ll|hell o|Ġ hello|Ġ w|o r|Ġw or|Ġwor d|w or|wor d|1 2|3 4|12 34|' s|I t|' S|I T|d o|n '|Ã ©|e Ì|Ì ģ|Ċ Ċ|Ġ Ġ|Ġ Ã©|Ġ x|e ĠÃ©|o n|do n|don 't|n 't|' t|< |".split("|")  # fmt: skip
    merges = [pair.split(" ") for pair in merges if len(pair.split(" ")) == 2 and all(pair.split(" "))]
    known = []
    for pair in merges:
        if pair[0] in vocab and pair[1] in vocab:
            vocab.setdefault("".join(pair), len(vocab))
            known.append(pair)
    while len(vocab) < 294:
        vocab[f"unused{len(vocab)}"] = len(vocab)
    return vocab | {END: 294}, known


def tokenizer_json(steps_of, vocab, merges):
    normalizer, pre_tokenizer = class_steps(steps_of, False)
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    }  # fmt: skip


def write_golden(path):
    vocab, merges = golden_vocabulary()
    rows = []
    for name, (steps_of, model_type, files) in GOLDEN.items():
        files = {**files, "config": {"model_type": model_type, **files.get("config", {})}}
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            if steps_of:
                row = {"steps": {k: v for k, v in tokenizer_json(steps_of, {}, []).items() if k != "model"}}
                text = json.dumps(tokenizer_json(steps_of, vocab, merges))
                (folder / "tokenizer.json").write_text(text)
            else:
                row = {}
                (folder / "vocab.json").write_text(json.dumps(vocab))
                (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), newline="\n")
            for file, content in files.items():
                (folder / f"{file}.json").write_text(json.dumps(content))
            tokenizer = load(folder)
            cases = [{"text": text, "ids": tokenizer(text)["input_ids"]} for text in GOLDEN_TEXTS]
        # As text: the order of keys counts.
        row |= {"name": name, "files": {f"{file}.json": json.dumps(content) for file, content in files.items()}, "cases": cases}
        rows.append(json.dumps(row, separators=(",", ":")))
    head = json.dumps({"vocab": vocab, "merges": merges}, separators=(",", ":"))[:-1]
    folders = ",\n".join(rows)
    pathlib.Path(path).write_text(f'{head},"folders":[\n{folders}\n]}}\n', encoding="utf-8")
