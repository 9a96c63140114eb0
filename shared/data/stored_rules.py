"""The rule of label files that travels with a checkpoint, read again."""

from typing import Any

from shared.data.ade20k import ColourLabels
from shared.data.cocostuff import MatLabels
from shared.data.label_rules import LabelRule, LabelRules
from shared.data.labels import LabelCodes, LabelReader, LabelTable

_BY_NAME: dict[str, LabelReader] = {reader.name: reader for reader in (MatLabels(), ColourLabels())}


def read_rules(stored: dict[str, Any], num_classes: int, *, offset: int | None = None, ignore_value: int | None = None) -> LabelRules:
    """What `LabelRules.to_plain` gave.

    Args:
        num_classes: C; more than at that time where there are new classes.
        offset, ignore_value: in place of what is stored; then the numbers in all files are class ids with these two.

    Raises:
        InputError: offset or ignore value contradict the classes.
    """
    rules = [_rule(rule, num_classes) for rule in stored["rules"]]
    if offset is not None or ignore_value is not None:
        last = stored["rules"][-1]
        given = {"offset": offset, "ignore_value": ignore_value}
        codes = LabelCodes(num_classes, **{key: last.get(key, 0) if value is None else value for key, value in given.items()})
        rules = [LabelRule(codes, rule.ending, rule.suffixes) for rule in rules if rule.suffixes == rules[-1].suffixes]
    return LabelRules(tuple(rules), stored["instances"], tuple(stored["others"]))


def _rule(stored: dict[str, Any], num_classes: int) -> LabelRule:
    reader: LabelReader
    if "offset" in stored:
        reader = LabelCodes(num_classes, stored["offset"], stored["ignore_value"])
    elif "classes" in stored:
        reader = LabelTable(tuple(stored["classes"]))
    else:
        reader = _BY_NAME[stored["format"]]
    return LabelRule(reader, stored["ending"], tuple(stored["suffixes"]))
