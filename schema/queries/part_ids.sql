-- Parts of which some rows still count.
SELECT id FROM _promkeep.part WHERE merged_upto < 9223372036854775807 ORDER BY id
