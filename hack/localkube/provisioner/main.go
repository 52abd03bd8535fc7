// Command provisioner gives every PersistentVolumeClaim of its class a folder
// of the node that any user may write to (mode 0777, as hostPath volumes do not
// follow fsGroup), and removes the folder with the claim.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

const folderMode = 0o777

type hostFolders struct {
	root string
	node string
}

// Provision makes the folder of one claim.
func (p *hostFolders) Provision(
	_ context.Context, options controller.ProvisionOptions,
) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	claim := options.PVC
	if claim.Spec.VolumeMode != nil && *claim.Spec.VolumeMode == v1.PersistentVolumeBlock {
		return nil, controller.ProvisioningFinished, errors.New("block volumes are not supported")
	}
	if claim.Spec.Selector != nil {
		return nil, controller.ProvisioningFinished, errors.New("claim selectors are not supported")
	}
	folder := filepath.Join(p.root, strings.Join([]string{claim.Namespace, claim.Name, options.PVName}, "_"))
	if err := os.MkdirAll(folder, folderMode); err != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("make the volume's folder: %w", err)
	}
	// MkdirAll's mode is cut by the umask.
	if err := os.Chmod(folder, folderMode); err != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("open the volume's folder: %w", err)
	}
	directory := v1.HostPathDirectory
	volume := &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   claim.Spec.AccessModes,
			Capacity: v1.ResourceList{
				v1.ResourceStorage: claim.Spec.Resources.Requests[v1.ResourceStorage],
			},
			PersistentVolumeSource: v1.PersistentVolumeSource{
				HostPath: &v1.HostPathVolumeSource{Path: folder, Type: &directory},
			},
			NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{
				NodeSelectorTerms: []v1.NodeSelectorTerm{{
					MatchExpressions: []v1.NodeSelectorRequirement{{
						Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn, Values: []string{p.node},
					}},
				}},
			}},
		},
	}
	return volume, controller.ProvisioningFinished, nil
}

// Delete removes the folder of a released volume.
func (p *hostFolders) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	if volume.Spec.HostPath == nil {
		return fmt.Errorf("volume %s is not one of ours", volume.Name)
	}
	folder := filepath.Clean(volume.Spec.HostPath.Path)
	if filepath.Dir(folder) != filepath.Clean(p.root) {
		return fmt.Errorf("volume %s: folder %s is not under %s", volume.Name, folder, p.root)
	}
	return os.RemoveAll(folder)
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig `file` of the cluster")
	name := flag.String("name", "localkube.brinkbyte.io/folder", "provisioner's `name`, as in the StorageClass")
	root := flag.String("root", "", "`folder` that holds the volumes")
	node := flag.String("node", "", "`name` of the node that the folder is on")
	flag.Parse()
	if *root == "" || *node == "" || *kubeconfig == "" {
		log.Fatal("provisioner: give --kubeconfig, --root and --node")
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatalf("provisioner: read the kubeconfig: %v", err)
	}
	config.QPS, config.Burst = 200, 400
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		log.Fatalf("provisioner: %v", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	controller.NewProvisionController(
		ctx, client, *name, &hostFolders{root: *root, node: *node},
		controller.LeaderElection(false), controller.MetricsPort(0), controller.Threadiness(8),
	).Run(ctx)
}
