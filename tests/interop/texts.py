"""The texts that the interop scripts score: twenty short ones, and a long one from Python's own manual."""

PLAIN = [
    "The lighthouse keeper climbed the stairs twice a day, once to light the lamp and once to put it out.",
    "Water boils at 100 degrees Celsius at sea level, but at 3,000 metres it boils near 90.",
    "Dear Ms. Okafor,\n\nYour order no. 48213 left our warehouse on 12 March 2024 and should arrive within "
    "three working days.\n\nKind regards,\nThe shop",
    "A list of fruit:\n- apples\n- pears\n- plums\n\nA list of tools:\n1. hammer\n2. saw\n3. pliers\n",
    "It's 7:45 p.m.; we've got $12.50, €9 and £3 -- that isn't (quite) 30!",
    "Whether the committee's decision, taken in haste and defended at length, would survive the appeal was a "
    "question that nobody in the room, least of all its chairman, wished to hear asked aloud.",
    "  leading spaces, double  spaces,\ttabs\tand trailing space ",
    "naïve café — Ωmega, déjà vu, Zürich, Łódź, Привет, 안녕하세요, 🙂👍🏽",
]
JAPANESE = [
    "昨日は雨が降っていたので、家で本を読んで過ごしました。",
    "お問い合わせありがとうございます。ご注文番号12345の商品は、3月10日に発送いたしました。",
    "日本の首都は東京で、人口は約1400万人です。大阪と名古屋も大きな都市です。",
    "この関数は引数として整数 n を受け取り、n の階乗を返します。",
]
CODE = [
    "def fibonacci(n: int) -> int:\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a\n",
    "fn main() {\n    let words = vec![\"one\", \"two\", \"three\"];\n    for (i, word) in words.iter().enumerate() {\n"
    "        println!(\"{i}: {word}\");\n    }\n}\n",
    "SELECT customer, COUNT(*) AS orders\nFROM sales\nWHERE year = 2023 AND total >= 99.90\nGROUP BY customer\n"
    "ORDER BY orders DESC;\n",
    '{"name": "Ada", "tags": ["maths", "engines"], "born": 1815, "alive": false, "ratio": 1.5e-3}\n',
]
CHATS = [
    [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "The capital of France is Paris."},
    ],
    [
        {"role": "system", "content": "You answer in one short sentence."},
        {"role": "user", "content": "Why is the sky blue?"},
        {"role": "assistant", "content": "Air scatters blue light more than red."},
        {"role": "user", "content": "And at sunset?"},
        {"role": "assistant", "content": "The light's longer path leaves mostly red."},
    ],
    [
        {"role": "user", "content": "「ありがとう」を英語で言うと何ですか。"},
        {"role": "assistant", "content": "「Thank you」です。"},
    ],
    [
        {"role": "user", "content": "Write a Python line that prints the squares of 1 to 5."},
        {"role": "assistant", "content": "```python\nprint([n * n for n in range(1, 6)])\n```"},
    ],
]

CHATML = "<|im_start|>{role}\n{content}<|im_end|>\n"
GEMMA = "<start_of_turn>{role}\n{content}<end_of_turn>\n"


def mixed(family: str, template=None) -> list[dict]:
    """Twenty rows `{kind, text}`; a chat also keeps its `messages` where the model has a template.

    `template` renders messages; a base model without one gets Gemma's turns written out.
    """
    rows = [
        {"kind": kind, "text": text}
        for kind, texts in (("english", PLAIN), ("japanese", JAPANESE), ("code", CODE))
        for text in texts
    ]
    for chat in CHATS:
        if template:
            rows.append({"kind": "chat", "text": template(chat), "messages": chat})
            continue
        form = GEMMA if family.startswith("gemma") else CHATML
        names = {"assistant": "model", "system": "user"} if form is GEMMA else {}
        text = "".join(form.format(role=names.get(m["role"], m["role"]), content=m["content"]) for m in chat)
        rows.append({"kind": "chat", "text": text})
    return rows


def long_text(characters: int = 24_000) -> str:
    """Prose of Python's language reference, which every Python carries (PSF licence)."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name].strip() for name in sorted(topics))[:characters]
