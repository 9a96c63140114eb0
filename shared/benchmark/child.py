"""One contestant of a benchmark in a process of its own; started by `shared.benchmark.suite`, not by hand."""

from shared.benchmark.isolation import answer_parent
from shared.benchmark.suite import perform

if __name__ == "__main__":
    answer_parent(perform)
