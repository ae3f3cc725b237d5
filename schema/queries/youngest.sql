SELECT youngest FROM _promkeep.leader
