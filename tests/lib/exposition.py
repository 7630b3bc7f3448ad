"""A strict reader of Prometheus's text format, version 0.0.4, as far as Kith writes it: whatever is not by the rules is an
AssertionError. Stricter than the format where that keeps graphs usable: each family has HELP and TYPE, its samples lie
together and come once, counters end in _total, and nothing is written twice."""
import re

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')
NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Inf)|NaN")


def read_labels(text, line):
    labels, at = {}, 0
    while at < len(text):
        found = LABEL.match(text, at)
        assert found, "labels: " + line
        name, value = found.groups()
        assert name not in labels, "a label twice: " + line
        labels[name] = re.sub(r"\\(.)", lambda m: "\n" if m.group(1) == "n" else m.group(1), value)
        at = found.end()
        if at < len(text):
            assert text[at] == "," and at + 1 < len(text), "labels: " + line
            at += 1
    return labels


def read_sample(line, family, kind):
    found = NAME.match(line)
    assert found and found.group() == family, "a sample outside of its family: " + line
    rest, labels = line[found.end():], {}
    if rest.startswith("{"):
        end = rest.rindex("}")
        labels, rest = read_labels(rest[1:end], line), rest[end + 1:]
    assert rest.startswith(" ") and NUMBER.fullmatch(rest[1:]), "a number: " + line
    value = float(rest[1:])
    assert kind != "counter" or value >= 0, "a counter below 0: " + line
    return tuple(sorted(labels.items())), value


def read(text):
    """{name: (type, {((label, value), ...): number})}"""
    assert text.endswith("\n") and "\r" not in text, "lines end with a line feed"
    families, family, helped = {}, None, None
    for line in text.split("\n")[:-1]:
        assert line and line == line.strip(), "a line: %r" % line
        if line.startswith("# HELP "):
            helped, help_text = line[7:].split(" ", 1)
            assert NAME.fullmatch(helped) and help_text and helped not in families, line
        elif line.startswith("# TYPE "):
            family, kind = line[7:].split(" ")
            assert family == helped and kind in ("counter", "gauge"), line
            assert (kind == "counter") == family.endswith("_total"), "only counters end in _total: " + line
            families[family] = (kind, {})
        else:
            assert not line.startswith("#") and family is not None and family == helped, line
            labels, value = read_sample(line, family, families[family][0])
            assert labels not in families[family][1], "a series twice: " + line
            families[family][1][labels] = value
    return families
