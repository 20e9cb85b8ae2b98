"""`start on` and `stop on`: an expression over events that becomes true once, as init(5) has it. Knows no job."""

import fnmatch


class Event:
    """A name and an ordered environment, as `initctl emit` gives them."""

    def __init__(self, name, env=()):
        self.name = name
        self.env = list(env)

    def value(self, key):
        return dict(self.env).get(key)


class Leaf:
    def __init__(self, words):
        self.name, self.arguments, self.seen = words[0], words[1:], None

    def offer(self, event):
        if event.name == self.name and all(self.fits(event, i, a) for i, a in enumerate(self.arguments)):
            self.seen = event

    def fits(self, event, position, argument):
        key, found, pattern = argument.partition("=")
        if not found:
            value = event.env[position][1] if position < len(event.env) else None
            return value is not None and fnmatch.fnmatchcase(value, argument)
        wanted = not key.endswith("!")
        value = event.value(key.rstrip("!"))
        return value is not None and fnmatch.fnmatchcase(value, pattern) == wanted

    def holds(self):
        return self.seen is not None

    def leaves(self):
        return [self]


class Both:
    def __init__(self, word, left, right):
        self.word, self.left, self.right = word, left, right

    def offer(self, event):
        self.left.offer(event)
        self.right.offer(event)

    def holds(self):
        sides = (self.left.holds(), self.right.holds())
        return all(sides) if self.word == "and" else any(sides)

    def leaves(self):
        return self.left.leaves() + self.right.leaves()


class Condition:
    """A whole expression. `offer` says whether this event made it true; then it starts afresh."""

    def __init__(self, text):
        self.words = text.replace("(", " ( ").replace(")", " ) ").split()
        self.root = self.expression()
        if self.words:
            raise ValueError("not expected: " + " ".join(self.words))

    def expression(self):
        left = self.term()
        while self.words and self.words[0] in ("and", "or"):
            word = self.words.pop(0)
            left = Both(word, left, self.term())
        return left

    def term(self):
        if not self.words:
            raise ValueError("an event is missing")
        if self.words[0] == "(":
            self.words.pop(0)
            inner = self.expression()
            if not self.words or self.words.pop(0) != ")":
                raise ValueError("a bracket is not closed")
            return inner
        words = []
        while self.words and self.words[0] not in ("and", "or", "(", ")"):
            words.append(self.words.pop(0))
        return Leaf(words)

    def offer(self, event):
        self.root.offer(event)
        if not self.root.holds():
            return None
        seen = [leaf.seen for leaf in self.leaves() if leaf.seen]
        for leaf in self.leaves():
            leaf.seen = None
        return seen

    def leaves(self):
        return self.root.leaves()
