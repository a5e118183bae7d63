"""The text of `edgeopt --help`; a test holds it against the commands that really exist."""

HELP = """\
Usage: edgeopt [OPTIONS] COMMAND [ARGS]...

  Take a trained model to real edge hardware, and prove what it does there.

Options:
  --version   Show the version and exit.
  -h, --help  Show this message and exit.

Commands:
  deploy     Optimize MODEL for a target, run it on a device and report the evidence.
  inspect    Show MODEL's operations, types, shapes and sizes, without running it.
  plan       Say which scheme a deploy of MODEL would use, and why.
  convert    Convert MODEL so that it obeys the target's hardware profile.
  fix        Repair MODEL (a .tflite) so that more maps, and prove that nothing changed.
  compile    Compile MODEL with the target's compiler and check what came out.
  tune       Measure candidates for MODEL: accuracy, latency, size, and which are best.
  evaluate   Measure the accuracy of MODEL on data.
  benchmark  Measure MODELS (.tflite) on a device, and compare their answers with the host.
  profile    Say where the time of MODEL (a .tflite) goes: its operations, types and layers.
  table      Fill a table: accuracy, latency and size of every model of SPEC.
  compare    Compare the latencies of two reports (--report FILE.json, or --json output).
  targets    List the targets, or show one with its hardware profile.
  devices    List, examine, clean, reserve and trust devices.
  compiler   Install, show or remove the Edge TPU compiler.
  doctor     Check what this machine can do: packages, compiler, folders.

  Exit codes: 0 success, 2 your input, 3 the model, 4 a missing or failed tool, 5 the device, 6
  a result that must not be believed.
"""
