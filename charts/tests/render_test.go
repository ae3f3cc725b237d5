package tests

import (
	"bytes"
	"io"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

// decoder knows the types of Kubernetes, of the Prometheus operator and of the Gateway API, and refuses fields they do not
// have, and fields given twice.
var decoder = func() runtime.Decoder {
	s := runtime.NewScheme()
	utilruntime.Must(scheme.AddToScheme(s))
	utilruntime.Must(monitoring.AddToScheme(s))
	utilruntime.Must(gateway.Install(s))
	return json.NewSerializerWithOptions(json.DefaultMetaFactory, s, s, json.SerializerOptions{Yaml: true, Strict: true})
}()

// ciValues returns the values files of the chart by name.
func ciValues(t *testing.T) map[string]map[string]any {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(chartDir, "ci", "*-values.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	out := map[string]map[string]any{}
	for _, f := range files {
		values, err := chartutil.ReadValuesFile(f)
		require.NoError(t, err, f)
		out[strings.TrimSuffix(filepath.Base(f), "-values.yaml")] = values
	}
	return out
}

// render returns the manifests as "helm template" would print them, in the order in which helm installs them.
func render(t *testing.T, values map[string]any) (string, error) {
	t.Helper()
	chart, err := loader.Load(chartDir)
	require.NoError(t, err)
	all, err := chartutil.ToRenderValues(chart, values, chartutil.ReleaseOptions{Name: "rel", Namespace: "monitoring", IsInstall: true}, chartutil.DefaultCapabilities)
	if err != nil {
		return "", err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return "", err
	}
	for name := range files {
		if strings.HasSuffix(name, "NOTES.txt") || strings.HasSuffix(name, ".tpl") {
			delete(files, name)
		}
	}
	_, manifests, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	for _, m := range manifests {
		io.WriteString(&out, "---\n# Source: "+m.Name+"\n"+strings.TrimSpace(m.Content)+"\n")
	}
	return out.String(), nil
}

// objects decodes manifests strictly.
func objects(t *testing.T, manifests string) []runtime.Object {
	t.Helper()
	docs := releaseutil.SplitManifests(manifests)
	keys := make([]string, 0, len(docs))
	for k := range docs {
		keys = append(keys, k)
	}
	sort.Sort(releaseutil.BySplitManifestsOrder(keys))
	var out []runtime.Object
	for _, k := range keys {
		o, _, err := decoder.Decode([]byte(docs[k]), nil, nil)
		require.NoError(t, err, "%s", docs[k])
		out = append(out, o)
	}
	require.NotEmpty(t, out)
	return out
}

// podSpecs returns the templates of the pods among the objects.
func podTemplates(all []runtime.Object) map[string]corev1.PodTemplateSpec {
	out := map[string]corev1.PodTemplateSpec{}
	for _, o := range all {
		switch o := o.(type) {
		case *appsv1.Deployment:
			out[o.Name] = o.Spec.Template
		case *appsv1.StatefulSet:
			out[o.Name] = o.Spec.Template
		}
	}
	return out
}

// arguments returns those of promkeep's container.
func arguments(t *testing.T, all []runtime.Object) []string {
	t.Helper()
	for _, template := range podTemplates(all) {
		for _, c := range template.Spec.Containers {
			if c.Name == "promkeep" {
				return c.Args
			}
		}
	}
	t.Fatal("there is no container promkeep")
	return nil
}
