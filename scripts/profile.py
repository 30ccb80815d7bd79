"""What the samples of a worker show: profile.py PROGRAM FOLDER

Reads FOLDER/samples.txt (perf script -F ip,sym,dso) and FOLDER/maps (the program's memory map), prints
the table, and writes FOLDER/folded.txt, which flame graphs are made of. In the program itself, functions
that the compiler put into others are told apart by its debug lines, which perf does slowly or not at all.
"""
import collections
import re
import subprocess
import sys

TOP = 25
# Shown instead of names that nobody has.
UNKNOWN = "[unknown]"
KERNEL = "[kernel]"

FRAME = re.compile(r"\s*([0-9a-f]+) (.*) \((.*)\)$")


def main():
    program, folder = sys.argv[1:]
    samples = read(f"{folder}/samples.txt")
    if not samples:
        sys.exit("error: perf took no samples")
    names = Names(program, base_of(program, f"{folder}/maps"), samples)
    stacks = [names.stack(frames) for frames in samples]
    with open(f"{folder}/folded.txt", "w") as file:
        folded = collections.Counter(";".join(name for name, _ in stack) for stack in stacks)
        for stack, count in sorted(folded.items()):
            file.write(f"{stack} {count}\n")
    show(stacks)


def read(path):
    """The samples: lists of (address, function, object), the innermost first."""
    samples, frames = [], []
    with open(path, errors="replace") as file:
        for line in [*file, "\n"]:
            match = FRAME.match(line)
            if match:
                frames.append((int(match[1], 16), match[2], match[3]))
            elif not line.strip() and frames:
                samples.append(frames)
                frames = []
    return samples


def base_of(program, path):
    """Where the program was in memory: its first mapping is that of its first byte."""
    with open(path) as file:
        for line in file:
            if line.split()[-1] == program:
                return int(line.split("-")[0], 16)
    sys.exit(f"error: {program} is not in {path}")


def ahead_of_file(program):
    """By how much the addresses of the program's code are ahead of its place in the file."""
    headers = subprocess.run(["readelf", "--segments", "--wide", program], capture_output=True, text=True,
                             check=True).stdout
    code = re.search(r"LOAD +0x([0-9a-f]+) 0x([0-9a-f]+) .* R E ", headers)
    return int(code[2], 16) - int(code[1], 16) if code else 0


class Names:
    def __init__(self, program, base, samples):
        self.program, self.base = program, base
        wanted = sorted({self.place(index, frame) for frames in samples
                         for index, frame in enumerate(frames) if frame[2] == program})
        # Some versions of perf tell where in memory it is, others where in the file.
        ahead = ahead_of_file(program)
        inside = [address - base if address >= base else address + ahead for address in wanted]
        self.inlined = dict(zip(wanted, resolve(program, inside)))

    @staticmethod
    def place(index, frame):
        # Where a call returns to may belong to the next line, or the next function.
        return frame[0] if index == 0 else frame[0] - 1

    def stack(self, frames):
        """(name, whether it is in the kernel), the outermost first."""
        stack = []
        for index, frame in enumerate(frames):
            _, name, place = frame
            if place == self.program:
                stack += [(function, False) for function in self.inlined[self.place(index, frame)]]
            elif place.startswith(KERNEL[:-1]):
                stack.append((f"{name}_[k]", True))
            else:
                name = place.rsplit("/", 1)[-1] if name == UNKNOWN else name
                stack.append((name, False))
        return stack[::-1]


def resolve(program, addresses):
    """For each address the functions there, the innermost first."""
    command = ["addr2line", "--exe", program, "--functions", "--inlines", "--demangle", "--addresses"]
    text = subprocess.run(command, input="\n".join(map(hex, addresses)), capture_output=True, text=True,
                          check=True).stdout
    found, functions = [], []
    lines = iter(text.splitlines())
    for line in lines:
        if re.fullmatch(r"0x[0-9a-f]+", line):
            functions = []
            found.append(functions)
        else:
            functions.append(short(line, next(lines)))
    return found


def short(function, line):
    """A function's name without types, and the file that it is from."""
    if function == "??":
        return UNKNOWN
    function = re.sub(r"::h[0-9a-f]{16}$", "", function)
    # From the innermost out, because types have types.
    while True:
        simpler = re.sub(r"<[^<>]*>", "", function.replace("->", ""))
        if simpler == function:
            break
        function = simpler
    function = function.replace("::::", "::").strip(":").replace(";", ",").replace(" ", "_")
    path = line.rsplit(":", 1)[0]
    file = "/".join(path.split("/")[-2:])
    return f"{function} ({file})"


def show(stacks):
    total = len(stacks)
    own = collections.Counter(stack[-1] for stack in stacks)
    kernel = sum(count for (_, is_kernel), count in own.items() if is_kernel)
    print(f"{total:,} samples: {kernel / total:.1%} in the kernel, {1 - kernel / total:.1%} in user space\n")
    print(f"  self     with    function (top {TOP} by the time in them themselves)")
    reached = collections.Counter(name for stack in stacks for name in set(stack))
    for function, count in own.most_common(TOP):
        name, is_kernel = function
        where = "kernel  " if is_kernel else "        "
        print(f"  {count / total:6.2%} {reached[function] / total:7.2%}  {where}{name.removesuffix('_[k]')}")
    print(f"\n  with     function (user space, top {TOP} by the time in them and in what they call)")
    user = [(entry, count) for entry, count in reached.most_common() if not entry[1]]
    for (name, _), count in user[:TOP]:
        print(f"  {count / total:6.2%}  {name}")


if __name__ == "__main__":
    main()
