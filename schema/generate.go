package schema

//go:generate go run ./internal/names
