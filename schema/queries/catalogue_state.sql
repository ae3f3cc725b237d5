SELECT version, retired FROM _promkeep.catalogue
