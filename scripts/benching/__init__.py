"""How fast lotus is, next to other forwarders, on this machine, in network namespaces.

Rooms, from the bottom up:

  figures     arithmetic: medians, ratios, verdicts, the no-loss search, reading of counters
  hosts       client, firewall and server as namespaces; cores; what must be put back afterwards
  forwarders  lotus and its peers: how each is started, asked and stopped
  traffic     the traffic programs, and what they report
  measures    what is measured: one file for each kind
  claims      the ratios that lotus has to reach
  campaign    interleaved rounds, progress, the raw values
  report      results.json and results.md
  plots       the same as pictures

__main__ is the command line. Run it as ./scripts/bench, which installs and builds what it needs.
"""
