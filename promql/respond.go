package promql

import (
	"encoding/json"
	"net/http"
)

// The shapes of Prometheus' API, for handlers of our own.
type apiResponse struct {
	Status    string `json:"status"`
	Data      any    `json:"data,omitempty"`
	ErrorType string `json:"errorType,omitempty"`
	Error     string `json:"error,omitempty"`
}

func respond(w http.ResponseWriter, data any) {
	writeJSON(w, http.StatusOK, apiResponse{Status: "success", Data: data})
}

func respondError(w http.ResponseWriter, status int, errorType, message string) {
	writeJSON(w, status, apiResponse{Status: "error", ErrorType: errorType, Error: message})
}

func badData(w http.ResponseWriter, message string) {
	respondError(w, http.StatusBadRequest, "bad_data", message)
}

func writeJSON(w http.ResponseWriter, status int, body apiResponse) {
	b, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(b) //nolint:errcheck // The client has gone; there is nobody to tell.
}
