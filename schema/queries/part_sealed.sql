SELECT id, level FROM _promkeep.part
WHERE sealed AND merged_upto < 9223372036854775807 ORDER BY level, id
