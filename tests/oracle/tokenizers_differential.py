"""Holds spectrace's tokenizers against PyPI `tokenizers`, string by string.

    tools/dev/differential_tokenizers --strings 100000
    tools/dev/differential_tokenizers --folders 2000                  whole folders, against transformers
    tools/dev/differential_tokenizers --golden tests/data/text        rewrite the small cases that the unit tests compare

Tokenizers of every kind are trained on the spot, on Python's own sources and the sentences below, and tried on real text in
many scripts, source code, random Unicode with combining marks, emoji, all kinds of spaces and pieces of special tokens.
Ends with 1 if any string differs. Needs tokenizers 0.23.3.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import sysconfig
import tempfile
import unicodedata

import tokenizer_folders
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "build/release/tests/support/tokenize_lines"

SENTENCES = """All human beings are born free and equal in dignity and rights.
Tous les êtres humains naissent libres et égaux en dignité et en droits. L'été, ça va là-bas?
Alle Menschen sind frei und gleich an Würde und Rechten geboren. Straße, GRÖSSE, ÄÖÜ ẞ
Todos los seres humanos nacen libres e iguales en dignidad y derechos. ¿Mañana? ¡Sí!
Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Zażółć gęślą jaźń
Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. İstanbul ılık
Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.
Все люди рождаются свободными и равными в своём достоинстве и правах. Ёлка, объём
Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια. ΟΔΟΣ ὁδός
כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. בְּרֵאשִׁית בָּרָא
يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. بِسْمِ ٱللَّهِ ۱۲۳ ٤٥٦
सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। १२३
সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।
மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்
มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ๑๒๓
人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。２０２６年
すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。ｶﾀｶﾅ パーティー が
모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 한글 ᄒᆞᆫ글
ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით. ᲥᲐᲠᲗᲣᲚᲘ
Բոլոր մարդիկ ծնվում են ազատ ու հավասար իրենց արժանապատվությամբ ու իրավունքներով։
ሰው፡ሁሉ፡ሲወለድ፡ነጻና፡በክብርና፡በመብትም፡እኩልነት፡ያለው፡ነው። ፩፪፫
មនុស្សទាំងអស់ កើតមកមានសេរីភាព និងសមភាព
རང་ངོས་ཀྱི་མི་ལ་སྐྱེས་ཙམ་ཉིད་ནས་ཆེ་མཐོངས་དང་ཐོབ་ཐང་གི་རང་དབང་འདྲ་མཉམ་
👩‍👩‍👧‍👦 family, 🏳️‍🌈 flag, 👍🏽 thumbs, 🇩🇪🇫🇷, ❤️, ☺︎, 1️⃣, 🧑🏿‍🚀🤦🏼‍♂️
∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β, ½ + ¼ = ¾, x² + y³, H₂O, ﬁne ﬂour, ℡ ™ № ㎏ ㍿ ① Ⅻ
don't I'll we've they're IT'S You'D 'tis o'clock 'S 'ſ 'ST 's't're
if x==1:\n\treturn  foo(bar[0],\r\n    baz)   # 3.14159e-10 0xDEADBEEF\n\n\n\ttrailing   \n
https://example.org/a?b=c&d=%20#e <div class="x">&nbsp;</div> {"k": [1, 22, 333, 4444, 55555]} ```py\nx\n```
# ---------------------------------------------------------------- ============================= ########### ............""".split("\n")
SENTENCES = [s.encode().decode("unicode_escape").encode("latin-1").decode() if "\\n" in s else s for s in SENTENCES]

SPACES = " \t\n\r\v\f\x85\xa0\u1680\u180e\u2000\u2002\u2003\u2009\u200a\u200b\u2028\u2029\u202f\u205f\u3000\ufeff\u2581"
MARKS = "\u0300\u0301\u0302\u0303\u0308\u030a\u0323\u0327\u0328\u0331\u0334\u0345\u05b0\u05bc\u064b\u0651\u093c\u094d\u0e34\u0e48\u1161\u11a8\u20dd\u3099\u309a\ufe0f\u200d"
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "1️⃣", "❤️", "🧑🏿‍🚀", "\u200d", "\ufe0f", "🏽"]
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn".split()
BY_CATEGORY = {name: [] for name in CATEGORIES}
for _c in range(0x110000):
    if not 0xD800 <= _c <= 0xDFFF:
        BY_CATEGORY[unicodedata.category(chr(_c))].append(chr(_c))

GPT2_REGEX = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2_REGEX = LLAMA3_REGEX.replace("{1,3}", "")
CL100K_REGEX = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
O200K_REGEX = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
DEEPSEEK_REGEX = (
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
KIMI_REGEX = "|".join(
    [
        r"[\p{Han}]+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
BLOOM_REGEX = " ?[^(\\s|[.,!?…。，、।۔،])]+"
CLIP_REGEX = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
ODD_REGEXES = [
    r"\w+", r"\W", r"\b\w", r"\B.", r"\d{2,}", r"\h{2}", r"[[:punct:]]+", r"[^[:space:]]{1,3}+", r"(?i)straße|[k-s]+",
    r"\p{Cyrillic}+|\p{Greek}+", r"[\p{Hiragana}\p{Katakana}ー]+", r"\P{L}+", r"[^\P{L}a-z]+", r"[\S&&[^a-e]]+",
    r"^.", r".$", r"(?m:a.)", r"x*", r"(?=[A-Z])", r"(?<=\s)\S", r"(?<!\w)\p{Lu}", r"(?>a+)b?", r"\A\s*|\s*\z",
    r"[a-z]{,2}0", r"a{2}?", r"[\t\v\f\x{e9}\u00e8]", r"[]a]+|[-b]", r"e(?i)r|S", r"\p{Mc}|\p{Me}", r"\p{^L}\p{Nd}",
    r"\s{2,}|\S{5}", r".\r?", r"[^\S\r\n]+", r"{a}|a{x}", r"\p{Sc}\p{Zs}?|\p{Cf}+",
]


def corpus():
    """Lines of Python's own sources and documentation, and the sentences."""
    folder = pathlib.Path(sysconfig.get_paths()["stdlib"])
    lines = []
    for path in sorted(folder.glob("*.py"))[:90] + sorted((folder / "pydoc_data").glob("*.py")):
        lines += path.read_text(encoding="utf-8", errors="ignore").splitlines(keepends=True)[:1500]
    return lines, SENTENCES * 20


def special_pieces(spec):
    contents = [t["content"] for t in spec["added_tokens"]]
    return [c for c in contents if not c.startswith("<0x")] + ["<s>", "</s>", "<unk>", "<|", "|>", "<0x41>", "▁", "Ġ"]


def strings(spec, count, rng, lines):
    """What the tokenizers are compared on."""
    specials = special_pieces(spec)

    def mixed():
        parts = []
        for _ in range(rng.randrange(1, 9)):
            pick = rng.randrange(9)
            if pick == 0:
                parts.append(chr(rng.choice([rng.randrange(1, 0xD800), rng.randrange(0xE000, 0x110000)])))
            elif pick == 1:
                parts.append("".join(rng.choice(SPACES) for _ in range(rng.randrange(1, 5))))
            elif pick == 2:
                parts.append(rng.choice("aeiouAEnNcsśé가ａ") + "".join(rng.choice(MARKS) for _ in range(rng.randrange(5))))
            elif pick == 3:
                parts.append(rng.choice(EMOJI))
            elif pick == 4:
                special = rng.choice(specials)
                parts.append(rng.choice([special, special.upper(), special[:-1], " " + special + "  ", special * 2]))
            elif pick == 5:
                parts.append(rng.choice(rng.choice(SENTENCES).split(" ")))
            elif pick == 6:
                parts.append(str(rng.randrange(10 ** rng.randrange(1, 12))))
            elif pick == 7:
                parts.append(rng.choice(BY_CATEGORY[rng.choice(CATEGORIES)]))
            else:
                parts.append("".join(chr(rng.randrange(32, 127)) for _ in range(rng.randrange(1, 12))))
            if rng.random() < 0.5:
                parts.append(" ")
        return "".join(parts)

    def cut(text):
        begin = rng.randrange(len(text) + 1)
        return text[begin : begin + rng.randrange(200)]

    yield ""
    for i in range(count - 1):
        kind = i % 6
        if kind == 0:
            yield cut(rng.choice(lines))
        elif kind == 1:
            yield cut(rng.choice(SENTENCES))
        elif kind == 2 and i % 4 == 0:  # rows of one character: ties between segmentations
            yield "".join(rng.choice("-=#* ._\"0aeé漢") * rng.randrange(1, 90) for _ in range(rng.randrange(1, 4)))
        elif kind == 2:
            begin = rng.randrange(len(lines) - 6)
            yield "".join(lines[begin : begin + rng.randrange(2, 6)])
        else:
            yield mixed()


# Building tokenizer.json ------------------------------------------------------------------------------------------


def added(content, **flags):
    token = {"id": 0, "content": content, "single_word": False, "lstrip": False, "rstrip": False}
    return {**token, "normalized": False, "special": True, **flags}


def template(*pieces):
    tokens = {p: {"id": p, "ids": [i], "tokens": [p]} for p, i in pieces if i is not None}
    single = [{"Sequence": {"id": "A", "type_id": 0}} if i is None else {"SpecialToken": {"id": p, "type_id": 0}} for p, i in pieces]
    return {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": tokens}


def sequence(key, *parts):
    return {"type": "Sequence", key: list(parts)}


def normalizer_sequence(*parts):
    return sequence("normalizers", *[p if isinstance(p, dict) else {"type": p} for p in parts])


def byte_level(use_regex=True, add_prefix_space=False):
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def metaspace(scheme="always", do_split=True):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": do_split}


SPACE_MARK = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
SPECIALS = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{b:02X}>" for b in range(256)]


class Builder:
    """Trains models and puts them into tokenizer.json dictionaries."""

    def __init__(self, vocab_size):
        self.vocab_size = vocab_size
        self.shared = None
        code, sentences = corpus()
        self.lines = code
        rng = random.Random(7)
        self.training = rng.sample(code, 12000) + sentences

    def trained(self, model, trainer, normalizer, pre_tokenizer):
        spec = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "decoder": None}
        spec |= {"normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": None}
        spec["model"] = json.loads(Tokenizer(model).to_str())["model"]
        tokenizer = Tokenizer.from_str(json.dumps(spec))
        tokenizer.train_from_iterator(self.training, trainer)
        return json.loads(tokenizer.to_str())["model"]

    def bpe(self, normalizer=None, pre_tokenizer=None, *, final=None, first=(), alphabet=(), limit=1000, tokens=(), processor=None, **options):
        """`final` replaces (normalizer, pre_tokenizer) after training; `first` are tokens with the lowest ids."""
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size, show_progress=False, special_tokens=list(first), initial_alphabet=list(alphabet),
            limit_alphabet=limit, continuing_subword_prefix=options.get("continuing_subword_prefix") or "",
            end_of_word_suffix=options.get("end_of_word_suffix") or "",
        )  # fmt: skip
        extra = {k: v for k, v in options.items() if k in ("continuing_subword_prefix", "end_of_word_suffix")}
        model = self.trained(models.BPE(**extra), trainer, normalizer, pre_tokenizer)
        model |= options
        if final:
            normalizer, pre_tokenizer = final
        return self.spec(model, normalizer, pre_tokenizer, tokens, processor)

    def byte_level_bpe(self, pre_tokenizer, normalizer=None, **options):
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        return self.bpe(normalizer, pre_tokenizer, alphabet=alphabet, **options)

    def resplit(self, pre_tokenizer, normalizer=None, tokens=()):
        """The byte-level model of GPT-2's pattern behind another pre-tokenizer: merges show where pieces end."""
        if self.shared is None:
            self.shared = self.byte_level_bpe(byte_level())["model"]
        return self.spec(self.shared, normalizer, pre_tokenizer, tokens, None)

    def unigram(self, normalizer=None, pre_tokenizer=None, *, byte_fallback=False, final=None, tokens=(), processor=None):
        trainer = trainers.UnigramTrainer(
            vocab_size=max(self.vocab_size, 900), show_progress=False, special_tokens=SPECIALS, unk_token="<unk>"
        )
        model = self.trained(models.Unigram(), trainer, normalizer, pre_tokenizer)
        model["byte_fallback"] = byte_fallback
        if byte_fallback:
            model["vocab"] += [[b, 0.0] for b in BYTES]
        if final:
            normalizer, pre_tokenizer = final
        return self.spec(model, normalizer, pre_tokenizer, tokens, processor)

    @staticmethod
    def spec(model, normalizer, pre_tokenizer, tokens, processor):
        return {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": list(tokens),
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": processor,
            "decoder": None, "model": model,
        }  # fmt: skip


LLAMA = dict(unk_token="<unk>", fuse_unk=True, byte_fallback=True)
LLAMA_TOKENS = [added(t) for t in SPECIALS]
BOS = template(("<s>", 1), ("A", None))
EVERY_FLAG = [
    added("<a>"), added("<left>", lstrip=True), added("<right>", rstrip=True), added("<both>", lstrip=True, rstrip=True),
    added("word", single_word=True), added("Ünï", single_word=True, normalized=True, special=False),
    added("Yesterday", normalized=True, special=False), added("<N l>", normalized=True, lstrip=True),
    added("<N r>", normalized=True, rstrip=True), added("<a><b>"), added("   "), added("\n\n", normalized=True, special=False),
    added("é", normalized=True, special=False, lstrip=True, rstrip=True), added("return", special=False, single_word=True, rstrip=True),
]  # fmt: skip
LOWER = {"type": "Lowercase"}


def kinds(build):
    """name -> function that makes the tokenizer.json dictionary."""
    gpt2 = byte_level()
    yield "gpt2", lambda: build.byte_level_bpe(gpt2, processor=byte_level(), tokens=[added("<|endoftext|>")])
    yield "gpt2_prefix_roberta", lambda: build.byte_level_bpe(
        byte_level(add_prefix_space=True), first=SPECIALS, tokens=[added("<mask>", lstrip=True), *LLAMA_TOKENS],
        processor={"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1], "trim_offsets": True, "add_prefix_space": True},
    )  # fmt: skip
    yield "neox", lambda: build.byte_level_bpe(
        gpt2, normalizer={"type": "NFC"},
        tokens=[added("<|endoftext|>")] + [added(" " * n, normalized=True, special=False) for n in range(24, 1, -1)],
    )  # fmt: skip
    yield "llama3", lambda: build.byte_level_bpe(
        sequence("pretokenizers", split(LLAMA3_REGEX), byte_level(False)), ignore_merges=True, first=["<|begin|>"],
        tokens=[added("<|begin|>"), added("<|eot|>")],
        processor=sequence("processors", byte_level(), template(("<|begin|>", 0), ("A", None))),
    )  # fmt: skip
    for name, regex in {"qwen2": QWEN2_REGEX, "cl100k": CL100K_REGEX, "o200k": O200K_REGEX, "bloom": BLOOM_REGEX, "kimi": KIMI_REGEX}.items():
        yield name, lambda regex=regex, name=name: build.byte_level_bpe(
            sequence("pretokenizers", split(regex), byte_level(False)), tokens=[added("<|im_start|>"), added("<|im_end|>")],
            normalizer={"type": "NFC"} if name == "qwen2" else None,
        )  # fmt: skip
    yield "deepseek", lambda: build.byte_level_bpe(
        sequence("pretokenizers", split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK_REGEX), byte_level(False)),
        tokens=[added("<｜User｜>", special=False), added("<｜end▁of▁sentence｜>")],
    )  # fmt: skip
    yield "falcon", lambda: build.byte_level_bpe(
        sequence("pretokenizers", {"type": "Punctuation", "behavior": "Contiguous"}, gpt2,
                 {"type": "Digits", "individual_digits": False}, split("[0-9][0-9][0-9]")),
        tokens=[added(">>TITLE<<"), added(">>ABSTRACT<<")],
    )  # fmt: skip
    yield "starcoder", lambda: build.byte_level_bpe(
        sequence("pretokenizers", {"type": "Digits", "individual_digits": True}, gpt2), tokens=[added("<fim_prefix>")]
    )
    yield "llama2", lambda: build.bpe(
        None, metaspace(), first=SPECIALS + BYTES, final=(normalizer_sequence({"type": "Prepend", "prepend": "▁"}, SPACE_MARK), None),
        tokens=LLAMA_TOKENS, processor=BOS, limit=120, **LLAMA,
    )  # fmt: skip
    for scheme in ("first", "always", "never"):
        yield "metaspace_" + scheme, lambda scheme=scheme: build.bpe(
            None, metaspace(), first=SPECIALS + BYTES, final=(None, metaspace(scheme, scheme == "always")), tokens=LLAMA_TOKENS,
            processor=template(("<s>", 1), ("A", None), ("</s>", 2)), limit=120, **LLAMA,
        )  # fmt: skip
    yield "metaspace_first_normalized", lambda: build.bpe(
        None, metaspace(), first=SPECIALS + BYTES, limit=120, tokens=[*LLAMA_TOKENS, added("<n>", normalized=True)], **LLAMA,
        final=(normalizer_sequence({"type": "Strip", "strip_left": True, "strip_right": False}, "NFKD", "StripAccents", LOWER),
               sequence("pretokenizers", split("[aeiou]", "MergedWithPrevious"), metaspace("first", False))),
    )  # fmt: skip
    yield "gemma", lambda: build.bpe(
        SPACE_MARK, split("▁", "MergedWithPrevious", kind="String"), first=SPECIALS + BYTES, limit=120,
        final=(SPACE_MARK, split(" ", "MergedWithPrevious", kind="String")),
        tokens=LLAMA_TOKENS + [added("\n" * n, special=False) for n in range(1, 9)] + [added("▁" * n, special=False) for n in range(2, 9)],
        processor=BOS, **LLAMA,
    )  # fmt: skip
    yield "bpe_unk_dropped", lambda: build.bpe(
        normalizer_sequence("NFD", LOWER, "StripAccents"), {"type": "Whitespace"}, limit=60, tokens=EVERY_FLAG
    )
    yield "bpe_unk_prefix", lambda: build.bpe(
        {"type": "NFKC"}, {"type": "WhitespaceSplit"}, limit=60, first=["[UNK]"], unk_token="[UNK]", fuse_unk=False,
        continuing_subword_prefix="##", tokens=[added("[UNK]"), added("[CLS]"), added("[SEP]")],
        processor={"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
    )  # fmt: skip
    yield "bpe_fuse_fallback", lambda: build.bpe(
        None, metaspace(), first=["<unk>", *BYTES[0xC0:]], limit=60, unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
    yield "clip", lambda: build.bpe(
        normalizer_sequence("NFC", {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}, LOWER),
        sequence("pretokenizers", split(CLIP_REGEX, "Removed", True), gpt2), alphabet=pre_tokenizers.ByteLevel.alphabet(),
        first=["<|endoftext|>"], unk_token="<|endoftext|>", end_of_word_suffix="</w>", tokens=[added("<|endoftext|>")],
    )  # fmt: skip
    yield "t5", lambda: build.unigram(None, metaspace(), tokens=LLAMA_TOKENS + [added("<extra_id_0>", lstrip=True)],
                                      processor=template(("A", None), ("</s>", 2)))  # fmt: skip
    yield "unigram_nfkc", lambda: build.unigram(
        normalizer_sequence("NFKC", LOWER, {"type": "Strip", "strip_left": True, "strip_right": True}), metaspace("first"),
        byte_fallback=True, tokens=[t for t in EVERY_FLAG if t["content"].strip()], processor=BOS,
    )  # fmt: skip
    yield "unigram_mixed", lambda: build.unigram(
        normalizer_sequence("NFKD", "StripAccents", {"type": "Replace", "pattern": {"Regex": "[ \\u00a0]{2,}"}, "content": " "}),
        sequence("pretokenizers", {"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Isolated"},
                 {"type": "Digits", "individual_digits": True}),
    )  # fmt: skip
    prepend = normalizer_sequence({"type": "Prepend", "prepend": "▁"}, SPACE_MARK)
    yield "added_prepend", lambda: build.bpe(None, metaspace(), first=SPECIALS + BYTES, final=(prepend, None), tokens=EVERY_FLAG, limit=120, **LLAMA)
    yield "added_byte_level", lambda: build.byte_level_bpe(byte_level(add_prefix_space=True), tokens=EVERY_FLAG, normalizer=LOWER)
    yield "normalizer_byte_level", lambda: build.bpe(
        normalizer_sequence("NFC", "ByteLevel"), split(r"Ġ+|\p{L}+"), alphabet=pre_tokenizers.ByteLevel.alphabet(),
        tokens=[added("<|x|>"), added("über", normalized=True)],
    )  # fmt: skip
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        yield form.lower(), lambda form=form: build.resplit(gpt2, normalizer={"type": form})
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        yield "punctuation_" + behavior.lower(), lambda b=behavior: build.resplit(
            sequence("pretokenizers", {"type": "Punctuation", "behavior": b}, byte_level(False))
        )
        for invert in (False, True):
            yield f"split_{behavior.lower()}_{invert}", lambda b=behavior, i=invert: build.resplit(
                sequence("pretokenizers", split(r"[-\s.,_=]|\p{Lu}", b, i), byte_level(False))
            )
    for number, regex in enumerate(ODD_REGEXES):
        behavior = ("Isolated", "MergedWithPrevious", "Contiguous")[number % 3]
        yield f"regex_{number}", lambda r=regex, b=behavior: build.resplit(
            sequence("pretokenizers", split(r, b), byte_level(False)), tokens=[added("<s>")]
        )


    for name, config in OPT_CONFIGS.items():
        yield name, lambda config=config: {
            "files": True, "config": config, "added_tokens": LLAMA_TOKENS,
            "model": build.byte_level_bpe(gpt2, first=["<s>", "<pad>", "</s>", "<unk>"])["model"],
        }  # fmt: skip


# tokenizer_config.json beside vocab.json and merges.txt: the hub's OPT folders have no more.
OPT_CONFIGS = {
    "files_opt": dict(
        bos_token={"__type": "AddedToken", "content": "</s>", "normalized": True, "lstrip": False, "rstrip": False, "single_word": False},
        eos_token="</s>", unk_token="</s>", pad_token="<pad>", add_bos_token=True, add_prefix_space=False,
    ),
    "files_prefix_eos": dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", add_eos_token=True, add_prefix_space=True),
    "files_bare": None,
}  # fmt: skip


def write_tokenizer(spec, folder):
    """tokenizer.json, or the older three files; returns text -> ids by the Python library."""
    folder = pathlib.Path(folder)
    if "files" not in spec:
        text = json.dumps(spec, ensure_ascii=False)
        (folder / "tokenizer.json").write_text(text, encoding="utf-8")
        tokenizer = Tokenizer.from_str(json.dumps(spec))
        return lambda text: tokenizer.encode(text).ids
    model = spec["model"]
    merges = "".join(f"{a} {b}\n" for a, b in model["merges"])
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges, encoding="utf-8", newline="\n")
    (folder / "config.json").write_text('{"model_type": "opt"}')  # says which class made them
    if spec["config"] is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(spec["config"]))
    tokenizer = transformers.GPT2Tokenizer.from_pretrained(folder)
    return lambda text: tokenizer(text)["input_ids"]


# Comparing --------------------------------------------------------------------------------------------------------


def expected_ids(encode, text):
    try:
        return encode(text)
    except BaseException as error:  # a panic inside the library
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"error: {error}"


def actual_ids(program, folder, texts):
    """spectrace's ids of each text; the lines are JSON texts, so that line breaks survive."""
    file = pathlib.Path(folder, "lines.txt")
    file.write_text("".join(json.dumps(t, ensure_ascii=False) + "\n" for t in texts), encoding="utf-8", newline="\n")
    done = subprocess.run([program, folder, file, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8")
    if done.returncode != 0:
        return None
    rows = done.stdout.split("\n")[:-1]
    return [r if r.startswith("error") else [int(i) for i in r.split()] for r in rows]


class Totals:
    strings = panics = 0


def vocabulary(spec):
    vocab = spec["model"]["vocab"]
    return vocab if isinstance(vocab, dict) else {token: i for i, (token, _) in enumerate(vocab)}


def compare(name, spec, program, count, seed, lines):
    rng = random.Random(f"{seed} {name}")
    texts = list(strings(spec, count, rng, lines))
    with tempfile.TemporaryDirectory() as folder:
        encode = write_tokenizer(spec, folder)
        got = actual_ids(program, folder, texts)
    if got is None or len(got) != len(texts):
        print(f"{name}: the command failed", flush=True)
        return 1
    failures = panics = 0
    for text, ids in zip(texts, got):
        want = expected_ids(encode, text)
        if isinstance(want, str):  # the library gives up (an added token inside the spaces another one took): no answer
            panics += 1
            continue
        if want == ids:
            continue
        failures += 1
        if failures <= 3:
            words = {i: token for token, i in vocabulary(spec).items()}
            shown = [[words.get(i, i) for i in row] if not isinstance(row, str) else row for row in (want, ids)]
            print(f"{name}: {text!r}\n  expected {shown[0]}\n  got      {shown[1]}")
    print(f"{name}: {len(texts)} strings, {failures} differ" + (f", {panics} without an answer" if panics else ""), flush=True)
    Totals.strings += len(texts)
    Totals.panics += panics
    return failures


GOLDEN = """gpt2 llama3 llama2 metaspace_first metaspace_first_normalized gemma bpe_unk_dropped bpe_unk_prefix clip t5 unigram_nfkc
 falcon bloom kimi added_prepend split_mergedwithnext_True normalizer_byte_level""".split()


def write_golden(folder, build):
    for name, make in kinds(build):
        if name not in GOLDEN:
            continue
        spec = make()
        tokenizer = Tokenizer.from_str(json.dumps(spec))
        rng = random.Random(name)
        texts = SENTENCES + [t for t in strings(spec, 120, rng, build.lines) if len(t) < 120]
        cases = [{"text": t, "ids": tokenizer.encode(t).ids} for t in texts]
        target = pathlib.Path(folder, name)
        target.mkdir(parents=True, exist_ok=True)
        spec["model"]["merges"] = [" ".join(m) for m in spec["model"].get("merges", [])] if name == "gpt2" else spec["model"].get("merges")
        if spec["model"]["merges"] is None:
            del spec["model"]["merges"]
        (target / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
        rows = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
        (target / "expected.json").write_text(f"[\n{rows}\n]\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, default=PROGRAM, help="tokenize_lines (default: that of build/release)")
    parser.add_argument("--strings", type=int, default=5000, help="for each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vocab-size", type=int, default=2000)
    parser.add_argument("--kinds", nargs="*", help="only kinds whose names start so")
    parser.add_argument("--folders", type=int, help="so many random folders against AutoTokenizer instead (tokenizer_folders.py)")
    parser.add_argument("--golden", metavar="FOLDER", help="write the small cases that the unit tests compare")
    arguments = parser.parse_args()
    if arguments.golden:
        write_golden(arguments.golden, Builder(420))
        return tokenizer_folders.write_golden(pathlib.Path(arguments.golden, "folders.json"))
    build = Builder(arguments.vocab_size)
    if arguments.folders:
        return 1 if tokenizer_folders.run(Builder(700), arguments.program, arguments.folders, arguments.seed) else 0
    failures = num_kinds = 0
    for name, make in kinds(build):
        if arguments.kinds and not any(name.startswith(k) for k in arguments.kinds):
            continue
        num_kinds += 1
        failures += compare(name, make(), arguments.program, arguments.strings, arguments.seed, build.lines)
    print(f"{num_kinds} kinds, {Totals.strings} strings, {failures} differ, {Totals.panics} without an answer")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
