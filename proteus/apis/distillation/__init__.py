"""Parts of :func:`proteus.apis.distill.distill`: resolve the arguments, write the config, sum up the run."""
