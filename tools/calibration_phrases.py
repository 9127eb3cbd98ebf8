"""Short texts of kinds that no package carries under free terms: captions, search queries, reviews and news, from patterns.

The patterns are written for this project; the words in capital letters are filled with nouns of WordNet and the lists here.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence

WORDS: dict[str, Sequence[str]] = {
    "WHO": (
        "a man|a woman|two women|a young boy|a little girl|three children|an old couple|a group of people|a crowd|some "
        "tourists|a cyclist|a street vendor|several students|a nurse|two workers|a family|a musician|a fisherman"
    ).split("|"),
    "WEARS": (
        "in a red jacket|with a hat|in shorts|wearing sunglasses|with a backpack|in a blue dress|holding an umbrella|in "
        "uniform|with long hair|||||"
    ).split("|"),
    "DOES": (
        "is walking along|sits on|stands next to|is running past|are waiting by|is taking a picture of|looks at|is "
        "cleaning|leans against|are playing near|is painting|carries|is repairing|points at|sleeps beside|climbs"
    ).split("|"),
    "WHERE": (
        "at the beach|on a busy street|in a park|in front of a shop|under a bridge|in the snow|at night|by a lake|in a "
        "kitchen|on a wooden floor|in an empty room|at a market|on a hill|in the rain|behind a fence|on the roof"
    ).split("|"),
    "COLOR": "black|white|brown|red|yellow|green|grey|dark blue|striped|old|tiny|huge|broken|wet|wooden".split("|"),
    "MOVES": "jumps over|chases|lies under|stares at|eats from|runs away from|swims toward|hides behind|drinks from".split(
        "|"
    ),
    "CITY": (
        "Lisbon|Nairobi|Osaka|Chicago|Lima|Warsaw|Hanoi|Toronto|Melbourne|Cairo|Oslo|Mumbai|Seoul|Athens|Denver|Lagos|"
        "Dublin|Santiago|Vienna|Jakarta|Manila|Glasgow|Montreal|Helsinki"
    ).split("|"),
    "FIRM": (
        "the airline|the carmaker|a regional bank|the software maker|the retailer|the drug company|the mining group|a chip "
        "supplier|the broadcaster|the shipping line|the energy company|a food producer|the railway operator"
    ).split("|"),
    "BODY": (
        "The government|The city council|Parliament|The central bank|A federal court|The health ministry|The opposition|"
        "The regulator|The union|Police|The education department|A senior minister|The prosecutor"
    ).split("|"),
    "NUMBER": "three|12|about 40|more than 200|1,500|nearly 9,000|two dozen|half a million|some 75".split("|"),
    "PERCENT": "0.4|1.2|2.5|3|4.8|7|11|16.5|23|40".split("|"),
    "DAY": "on Monday|on Tuesday|on Wednesday|late on Thursday|on Friday|over the weekend|this week|last month".split(
        "|"
    ),
    "GOOD": (
        "I love it|works perfectly|worth every penny|better than I expected|highly recommended|no complaints so far|could "
        "not be happier|exceeded my expectations|does exactly what it says|a real bargain"
    ).split("|"),
    "BAD": (
        "very disappointed|stopped working after a week|not worth the money|I sent it back|would not buy again|feels cheap|"
        "the instructions make no sense|customer service never answered|a complete waste of time|smaller than in the picture"
    ).split("|"),
    "SO": "but|although|and|. Still,|, even if".split("|"),
    "PART": "battery|screen|handle|lid|fabric|sound|packaging|taste|staff|room|delivery|price|smell|size|app|strap".split(
        "|"
    ),
    "IS": "is great|is terrible|could be better|was fine|broke at once|is surprisingly good|was late|was a bit small".split(
        "|"
    ),
    "ADJ": "best|cheap|used|organic|vintage|waterproof|portable|second hand|easy|small|healthy|free".split("|"),
    "YEAR": "1848|1912|1945|1969|1987|1999|2008|2016|2021|2024".split("|"),
}

PATTERNS: dict[str, Sequence[str]] = {
    "captions": (
        "WHO WEARS DOES a THING WHERE.",
        "WHO WEARS DOES a COLOR THING.",
        "A COLOR ANIMAL MOVES a THING WHERE.",
        "a close up of a COLOR THING and a THING",
        "A THING and a COLOR THING on a table.",
        "A plate of FOOD and FOOD next to a THING.",
        "WHO WEARS and a COLOR ANIMAL WHERE.",
        "There is no ANIMAL MOVES the THING.",
        "The PERSON WEARS DOES the THING.",
        "A PERSON is talking to a PERSON WHERE",
    ),
    "questions": (
        "how to clean a THING",
        "ADJ THING for PERSON",
        "THING vs THING",
        "what is the difference between FOOD and FOOD",
        "ADJ FOOD recipe",
        "where to buy a ADJ THING in CITY",
        "weather CITY DAY",
        "how old is the oldest ANIMAL",
        "CITY airport parking",
        "why does my ANIMAL eat FOOD",
        "who invented the THING",
        "when did the THING first appear in CITY?",
        "Can I take a THING on a plane?",
        "How many calories are in FOOD?",
        "What happened in CITY in YEAR?",
        "How do I become a PERSON?",
        "Is it safe to feed FOOD to a ANIMAL?",
        "fix THING PART",
        "PERSON salary CITY YEAR",
        "THING near me",
        "symptoms of ILLNESS",
        "is ILLNESS contagious",
        "What does a PERSON do all day?",
        "Which THING is better for a small kitchen, and why?",
    ),
    "reviews": (
        "The PART IS SO the PART IS. GOOD!",
        "The PART IS SO the PART IS. BAD.",
        "Bought this THING for my PERSON DAY: GOOD.",
        "Bought this THING DAY: BAD.",
        "We stayed here for NUMBER nights. The PART IS and the PART IS.",
        "GOOD. My old THING lasted only NUMBER months, this one is still going strong.",
        "BAD!!! The PART IS.",
        "Great FOOD, friendly PERSON, fair prices. We will be back.",
        "The FOOD was cold and we waited NUMBER minutes. BAD.",
        "NUMBER stars. The PART IS, the PART IS, and it came without a THING.",
        "I read this book in CITY and could not put it down; the PERSON in it is unforgettable.",
        "An album that sounds like a THING falling downstairs. I played it NUMBER times.",
        "Does not fit my THING. Otherwise GOOD.",
    ),
    "news": (
        "BODY said DAY that NUMBER people were injured when a THING collapsed in CITY.",
        "Shares of FIRM fell PERCENT per cent DAY after it cut its forecast for the year.",
        "BODY approved a plan to ban the sale of FOOD in CITY, despite protests by NUMBER farmers.",
        "FIRM plans to cut NUMBER jobs at its plant in CITY, a spokesman said DAY.",
        "BODY raised its key rate by PERCENT points DAY, citing rising prices of FOOD.",
        "A PERSON from CITY has been charged after a THING was stolen from a museum DAY.",
        "CITY won PERCENT million in aid to fight an outbreak of ILLNESS that has killed NUMBER people.",
        "Heavy rain left NUMBER homes without power around CITY DAY, and more is expected.",
        "Scientists in CITY have found that a ANIMAL thought extinct since YEAR still lives in the region.",
        "CITY beat CITY in extra time DAY to reach the final for the first time since YEAR.",
        "The former PERSON, who led the country until YEAR, died in CITY DAY. He was 84.",
        "BODY rejected calls for an inquiry into the deal with FIRM, which is worth PERCENT billion dollars.",
        "Exports rose PERCENT per cent in the quarter, helped by demand for FOOD, figures showed DAY.",
        "Talks between BODY and FIRM broke down DAY, raising fears of a strike in CITY.",
        "NUMBER flights were cancelled DAY after a fault in the THING that guides landings at CITY.",
    ),
}
_SLOT = re.compile(r"[A-Z]{2,}\b")


def phrases(domain: str, nouns: Mapping[str, Sequence[str]], count: int, seed: int) -> Iterator[str]:
    """`count` texts of one of PATTERNS; `nouns` has THING, ANIMAL, FOOD, PERSON and ILLNESS."""
    random_ = random.Random(seed)
    words = {**WORDS, **nouns}
    for number in range(count):
        pattern = PATTERNS[domain][number % len(PATTERNS[domain])]
        text = _SLOT.sub(lambda slot: random_.choice(words[slot[0]]), pattern)
        text = re.sub(r"\b(a|A)(?= [aeiouAEIOU])", r"\1n", re.sub(r"\s+([.,!?])?", lambda m: m[1] or " ", text)).strip()
        yield text[0].upper() + text[1:] if text[-1] in ".!?" else text
