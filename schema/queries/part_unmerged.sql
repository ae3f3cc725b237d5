-- How many parts wait to be merged.
SELECT count(*) FROM _promkeep.part WHERE sealed AND merged_upto < 9223372036854775807
