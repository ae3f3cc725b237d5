-- $1 is the version of the rows, $2 the time of the youngest sample in ms.
UPDATE _promkeep.leader SET import_version = $1, imports = imports + 1,
    imported_until = greatest(imported_until, $2), youngest = greatest(youngest, $2)
