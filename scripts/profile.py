"""What the samples of a worker's core show: profile.py PROGRAM FOLDER

Reads FOLDER/samples.txt (perf script -F comm,tid,ip,sym,dso) and FOLDER/maps (the program's memory map), prints
the table, and writes FOLDER/folded.txt, which flame graphs are made of. In the program itself, functions
that the compiler put into others are told apart by its debug lines, which perf does slowly or not at all.
"""
import collections
import re
import subprocess
import sys

TOP = 25
TOP_KERNEL = 15
# Shown instead of names that nobody has.
UNKNOWN = "[unknown]"
KERNEL = "[kernel]"

# The thread that a profile is about, and what runs when nobody does.
WORKER, IDLE = "lotus-w0", "swapper"

THREAD = re.compile(r"(\S.*?)\s+\d+\s*$")
FRAME = re.compile(r"\s+([0-9a-f]+) (.*) \((.*)\)$")


def main():
    program, folder = sys.argv[1:]
    samples = read(f"{folder}/samples.txt")
    if not samples:
        sys.exit("error: perf took no samples")
    names = Names(program, base_of(program, f"{folder}/maps"), [frames for _, frames in samples])
    stacks = [(thread, names.stack(frames)) for thread, frames in samples]
    with open(f"{folder}/folded.txt", "w") as file:
        folded = collections.Counter(";".join([thread, *(name for name, _ in stack)])
                                     for thread, stack in stacks if not thread.startswith(IDLE))
        for stack, count in sorted(folded.items()):
            file.write(f"{stack} {count}\n")
    threads = collections.Counter("nobody" if thread.startswith(IDLE) else thread for thread, _ in stacks)
    print("who had the core: " + ", ".join(f"{thread} {count / len(stacks):.1%}"
                                           for thread, count in threads.most_common(5)))
    worker = [stack for thread, stack in stacks if thread == WORKER and stack]
    if not worker:
        sys.exit(f"error: {WORKER} was never seen")
    show(worker)


def read(path):
    """The samples: a thread and its frames (address, function, object), the innermost first."""
    samples = []
    with open(path, errors="replace") as file:
        for line in file:
            frame = FRAME.match(line)
            if frame:
                samples[-1][1].append((int(frame[1], 16), frame[2], frame[3]))
            elif line.strip():
                thread = THREAD.match(line)
                samples.append((thread[1] if thread else UNKNOWN, []))
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
    """A function's name without types. Those that were put into others come without their module: with the file
    instead."""
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
    if "::" in function:
        return function.removeprefix("lotus::")
    path = line.rsplit(":", 1)[0]
    file = "/".join(path.split("/")[-2:])
    return f"{function} ({file})"


def show(stacks):
    total = len(stacks)
    own = collections.Counter(stack[-1] for stack in stacks)
    kernel = sum(count for (_, is_kernel), count in own.items() if is_kernel)
    print(f"the worker: {total:,} samples, {kernel / total:.1%} in the kernel, "
          f"{1 - kernel / total:.1%} in user space\n")
    print(f"  self     with    function (top {TOP} by the time in them themselves)")
    reached = collections.Counter(name for stack in stacks for name in set(stack))
    for function, count in own.most_common(TOP):
        name, is_kernel = function
        where = "kernel  " if is_kernel else "        "
        print(f"  {count / total:6.2%} {reached[function] / total:7.2%}  {where}{name.removesuffix('_[k]')}")
    for place, is_kernel, most in (("user space", False, TOP), ("kernel", True, TOP_KERNEL)):
        print(f"\n  with     function ({place}, top {most} by the time in them and in what they call)")
        # What is always there, the beginning of a thread, says nothing.
        found = [(name, count) for (name, kernel), count in reached.most_common()
                 if kernel == is_kernel and count < total]
        for name, count in found[:most]:
            print(f"  {count / total:6.2%}  {name.removesuffix('_[k]')}")


if __name__ == "__main__":
    main()
