"""A chat whose answer is JSON of a given form, whatever the model would rather say.

python examples/structured_chat.py TEXT [--model MODEL]

Needs the extra [grammar]: pip install "aerogel[grammar]".
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import aerogel

#: A JSON schema; everything in it has a bound, so that the answer has one too.
DEBT = {
    "type": "object",
    "properties": {
        "who": {"type": "string", "maxLength": 20},
        "whom": {"type": "string", "maxLength": 20},
        "amount": {"type": "integer", "minimum": 0, "maximum": 100000},
        "currency": {"enum": ["EUR", "USD", "GBP"]},
    },
    "required": ["who", "whom", "amount", "currency"],
    "additionalProperties": False,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", help="such as: Ada owes Bob 30 euros.")
    parser.add_argument("--model", help="one that chats; SmolLM2-135M-Instruct unless given")
    given = parser.parse_args(arguments)

    model = aerogel.load(given.model or sample())
    messages = [
        {"role": "system", "content": "Say as JSON who owes whom how much money."},
        {"role": "user", "content": given.text},
    ]
    answer = model.chat(messages, max_new_tokens=200, json_schema=DEBT)
    debt = json.loads(answer)  # it is always JSON, and always has these keys
    print(f"{debt['who']} owes {debt['whom']} {debt['amount']} {debt['currency']}")
    return 0


def sample() -> str:
    from aerogel.checkpoint.samples import fetch

    return str(fetch("SmolLM2-135M-Instruct"))


if __name__ == "__main__":
    raise SystemExit(main())
