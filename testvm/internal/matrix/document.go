package matrix

func Document(rows []Row) []byte { return nil }
