"""What lm-evaluation-harness says of single answers: IFEval's instructions, ROUGE-L, choices found by expression.

Made with lm-eval 0.4.13, rouge-score 0.1.2, Python 3.11. Sentences and words in capitals are left out: they need NLTK's
data. Run by hand:

    python eval/tests/golden/make_judged.py
"""
import json
import pathlib

import nltk

# The module fetches data when it is imported; what is held together here needs none.
nltk.download = lambda *a, **k: True
nltk.data.find = lambda *a, **k: True

from lm_eval.filters.extraction import MultiChoiceRegexFilter, RegexFilter  # noqa: E402
from lm_eval.tasks.ifeval.utils import process_results  # noqa: E402
from rouge_score.rouge_scorer import RougeScorer  # noqa: E402

ROWS = [
    ("keywords:existence", {"keywords": ["river", "sea"]}, ["The River meets the SEA.", "The river only."]),
    ("keywords:frequency", {"keyword": "tea", "frequency": 2, "relation": "at least"}, ["Tea, more tea.", "tea"]),
    ("keywords:frequency", {"keyword": "tea", "frequency": 2, "relation": "less than"}, ["Tea, more tea.", "steam"]),
    ("keywords:forbidden_words", {"forbidden_words": ["very", "nice"]}, ["It is nicely done.", "Very well."]),
    ("keywords:letter_frequency", {"letter": "e", "let_frequency": 3, "let_relation": "at least"}, ["eEe", "ee"]),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, ["a\n***\nb", "a\n***\n***\nb", "***\na\n***\nb"]),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, ["one two", "one two-three", "a b c"]),
    ("length_constraints:nth_paragraph_first_word",
     {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "well"},
     ["Ah.\n\nWell, yes.", "Ah.\n\n'well' no", "Well.\n\nAh.", "a\n\n\n\nwell", "a\n\nwell\n\nb"]),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, ["[a] and [b]", "[a\nb] [c]"]),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, ["Bye.\nP.S. More.", "Bye. PS more", "p. s. x"]),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["P.P.S more", "p. p. s more", "P.S."]),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, ["* a\n* b", "- a\n** b\n* c", "* a"]),
    ("detectable_format:constrained_response", {}, ["My answer is yes.", "my answer is yes."]),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2},
     ["*a* and *b*", "**a** only", "* * and *b*", "*a\nb* *c*"]),
    ("detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 2},
     ["Section 1\na\nSection 2\nb", "section 1 section 2", "Section 1"]),
    ("detectable_format:json_format", {}, ["```json\n{\"a\": 1}\n```", "{a: 1}", " [1, 2] "]),
    ("detectable_format:title", {}, ["<<A title>>\ntext", "<< >>", "<<a\nb>>"]),
    ("combination:two_responses", {}, ["a\n******\nb", "a\n******\na", "******\na\n******\nb", "a"]),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, ["say it. Done.", "Done. Say it."]),
    ("startend:end_checker", {"end_phrase": "That is all."}, ["x. That is all.", "\"x that is ALL.\"", "That is all. x"]),
    ("startend:quotation", {}, ["\"a\"", "\"", "a\"", " \"a b\" "]),
    ("punctuation:no_comma", {}, ["a b", "a, b"]),
]
PAIRS = [
    ("The cat sat on the mat.", "the cat is on the mat"), ("", "a"), ("a b c d", "d c b a"), ("It's 3.5 kg", "its 3 5 KG"),
    ("one two three", "one two three"),
]
CHOICES = [
    ("The answer is (B).", ["red", "blue"]), ("I think blue", ["red", "blue"]), ("So: A", ["red", "blue"]),
    ("nothing", ["red", "blue"]), ("Guilty of Romance", ["Guilty", "Guilty of Romance"]),
]


def main():
    made = {"ifeval": [], "rouge": [], "choices": [], "regex": []}
    for kind, arguments, answers in ROWS:
        doc = {"key": 1, "prompt": "p", "instruction_id_list": [kind], "kwargs": [arguments]}
        for answer in answers + ["", "Sure.\n" + answers[0], "*" + answers[0] + "*"]:
            said = process_results(doc, [answer])
            judged = [said["inst_level_strict_acc"][0], said["inst_level_loose_acc"][0]]
            made["ifeval"].append({"doc": doc, "answer": answer, "judged": judged})
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    for answer, target in PAIRS:
        made["rouge"].append([answer, target, scorer.score(target, answer)["rougeL"].fmeasure])
    for answer, choices in CHOICES:
        for ignore in (False, True):
            with_case = MultiChoiceRegexFilter(r"(\([A-Z]\))", 0, "[invalid]", ignore_case=ignore)
            found = with_case.apply([[answer]], [{"choices": choices}])[0][0]
            made["choices"].append({"answer": answer, "choices": choices, "ignore_case": ignore, "found": found})
    for pattern, group, answer in [
        (r"(-?[$0-9.,]{2,})|(-?[0-9]+)", -1, "7 and 12, so $15."), (r"(-?[$0-9.,]{2,})|(-?[0-9]+)", -1, "none"),
        (r"#### (\-?[0-9\.\,]+)", 0, "#### 1,200\n#### 5"), (r"[a-z]+", 1, "AB cd ef"), (r"[a-z]+", -3, "cd ef gh"),
        (r"answer is \(?([ABCDEFGHIJ])\)?", 0, "the answer is (C)."),
    ]:
        found = RegexFilter(pattern, group).apply([[answer]], [{}])[0][0]
        made["regex"].append({"pattern": pattern, "group": group, "answer": answer, "found": found})
    out = json.dumps(made, ensure_ascii=False, indent=1)
    (pathlib.Path(__file__).resolve().parent / "judged.json").write_text(out + "\n")


if __name__ == "__main__":
    main()
