"""From executed notebooks to the rendered book: collect the runs, stage a Sphinx source tree, build it.

Everything the site shows about a result is read from the evidence record inside an executed notebook;
nothing is typed by hand. ``python -m repro.site --help`` lists the commands.
"""
