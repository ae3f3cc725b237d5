-- How many samples there are, and in how many packed rows. What is being merged may be counted twice.
SELECT coalesce(sum(n), 0)::int8, coalesce(sum(members), 0)::int8 FROM (
    SELECT n, members FROM _promkeep.chunk
    UNION ALL
    SELECT r.n, r.members FROM _promkeep.part AS p JOIN _promkeep.recent AS r ON r.part = p.id AND r.last_id > p.merged_upto
) AS stored
