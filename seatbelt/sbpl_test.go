package seatbelt

func readProfile(s string) (int, error) { return 0, nil }
