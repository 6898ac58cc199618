package policies

import "github.com/waymark-cd/waymark/release"

// InputFormat is the version of the documents that rules see as "input".
const InputFormat = 2

// Target is where a run takes place, as every input tells it.
type Target struct {
	Env       string `json:"env"`
	Scope     string `json:"scope"` // a Region, or "global"
	Team      string `json:"team"`
	Account   string `json:"account"`   // 12 digits; empty where the configuration names none
	Protected bool   `json:"protected"` // environment { protected = true }
}

func targetOf(spec release.PolicySpec) Target {
	t := spec.Target
	return Target{Env: t.Env, Scope: t.Scope, Team: t.Team, Account: spec.Account, Protected: spec.Protected}
}

// Input is what the files of a root module, and of every local module that it
// reaches, say: the document that rules on the configuration see as "input".
// Every field is always present in its JSON and no list is null, so that a rule
// never passes because a field was left out. The lists hold the union of all
// files: an override adds an entry, it replaces none.
type Input struct {
	Format int    `json:"format"` // the version of this document: 2
	Target Target `json:"target"`
	Kind   string `json:"kind"` // what the run is for: deploy, drift, rollback, destroy or plan
	// ConfiguredBackend is the type of backend in Waymark's own configuration.
	ConfiguredBackend string `json:"configured_backend"`

	Stack             string             `json:"stack"` // folder of the root module, "." for the repository's own
	Files             []string           `json:"files"` // every file that was read
	RequiredVersions  []RequiredVersion  `json:"required_versions"`
	RequiredProviders []RequiredProvider `json:"required_providers"`
	Providers         []ProviderBlock    `json:"providers"`
	ModuleCalls       []ModuleCall       `json:"module_calls"`
	Backends          []Backend          `json:"backends"`
	Resources         []Resource         `json:"resources"`
	ProviderMeta      []ProviderMeta     `json:"provider_meta"`
	Encryption        []Encryption       `json:"encryption"`
	// EngineFolders are folders beside the root module from which the engine
	// would load plug-ins or modules that nobody downloaded: .terraform and
	// terraform.d.
	EngineFolders []string `json:"engine_folders"`
	// FileFunctions are the calls of functions that read files, such as file and
	// templatefile.
	FileFunctions []FileFunction `json:"file_functions"`
	// OutsideLinks are the symbolic links of the repository that lead out of it.
	OutsideLinks []OutsideLink `json:"outside_links"`
}

func newInput(stack string) Input {
	return Input{
		Format: InputFormat, Stack: stack, Files: []string{},
		RequiredVersions: []RequiredVersion{}, RequiredProviders: []RequiredProvider{},
		Providers: []ProviderBlock{}, ModuleCalls: []ModuleCall{}, Backends: []Backend{},
		Resources: []Resource{}, ProviderMeta: []ProviderMeta{}, Encryption: []Encryption{},
		EngineFolders: []string{}, FileFunctions: []FileFunction{}, OutsideLinks: []OutsideLink{},
	}
}

// Location says where in the repository something is written. Paths are
// relative to the repository, with slashes.
type Location struct {
	Module string `json:"module"` // the module's folder, "." for the repository's own
	File   string `json:"file"`
	Line   int    `json:"line"` // from 1
}

// RequiredVersion is a constraint on the engine's version. It is empty where
// it is not written as a plain string.
type RequiredVersion struct {
	Location
	Constraint string `json:"constraint"`
}

// RequiredProvider is one entry of a required_providers block.
type RequiredProvider struct {
	Location
	Provider string `json:"provider"` // the module's own name for it
	Source   string `json:"source"`   // as written; empty where there is none
	Version  string `json:"version"`
	// ProviderAddress is the normal form of the source, such as "hashicorp/time"
	// or "registry.example.org/org/name". Empty where the source is malformed or
	// no plain string.
	ProviderAddress string `json:"provider_address"`
}

// ProviderBlock is a block that configures a provider.
type ProviderBlock struct {
	Location
	Provider        string `json:"provider"`
	Alias           string `json:"alias"`
	ProviderAddress string `json:"provider_address"` // as in Resource
}

// ModuleCall is a module block.
type ModuleCall struct {
	Location
	Name    string `json:"name"`
	Source  string `json:"source"` // as written; empty where there is none or Computed
	Version string `json:"version"`
	// Address is the normal form of a source that is downloaded, without its
	// query; Query is the rest, with its "?". Both are empty for a local path and
	// for a source that is malformed.
	Address string `json:"address"`
	Query   string `json:"query"`
	// Local says that the source is a path. Folder is where it leads, relative to
	// the repository; it is empty where Outside says that it leads out of it.
	Local   bool   `json:"local"`
	Folder  string `json:"folder"`
	Outside bool   `json:"outside"`
	// Computed says that the source is no plain string, so that nobody knows
	// before the engine runs what it is.
	Computed bool `json:"computed"`
}

// Backend is a backend or cloud block.
type Backend struct {
	Location
	Type string `json:"type"` // the backend's type, "cloud" for a cloud block
}

// Resource is a block that makes a provider or a provisioner do something.
type Resource struct {
	Location
	Kind     string `json:"kind"` // resource, data, ephemeral, action, import or removed
	Type     string `json:"type"` // empty for import and removed
	Name     string `json:"name"`
	Provider string `json:"provider"` // the module's own name for its provider; empty where there is none or it is computed
	// ProviderAddress is that of the module's first declaration of Provider. One
	// that is not declared counts as hashicorp/<name>, or as the engine's own
	// where the name is terraform.
	ProviderAddress string        `json:"provider_address"`
	Provisioners    []Provisioner `json:"provisioners"`
}

// Provisioner is a provisioner block of a resource.
type Provisioner struct {
	Type string `json:"type"` // local-exec, remote-exec, file, ...
	Line int    `json:"line"` // in the resource's file
}

// ProviderMeta is a provider_meta block.
type ProviderMeta struct {
	Location
	Provider string `json:"provider"`
}

// Encryption is a key_provider or method block inside OpenTofu's encryption
// block. Those of type "external" start a program.
type Encryption struct {
	Location
	Kind string `json:"kind"` // key_provider or method
	Type string `json:"type"`
	Name string `json:"name"`
}

// FileFunction is a call of a function that reads a file, or lists a folder,
// when the code is evaluated.
type FileFunction struct {
	Location
	Function string `json:"function"` // such as file, filebase64, templatefile or fileset
	// Path is the first argument where it can be read without evaluation: a plain
	// string, which may begin with ${path.module}, ${path.root} or ${path.cwd}.
	Path string `json:"path"`
	// Resolved is where Path leads, relative to the repository; empty where
	// Outside says that it leads out of it, and where it is Computed.
	Resolved string `json:"resolved"`
	Outside  bool   `json:"outside"`
	// Computed says that nobody knows before the engine runs what is read.
	Computed bool `json:"computed"`
}

// OutsideLink is a symbolic link that leads out of the repository.
type OutsideLink struct {
	File   string `json:"file"`   // relative to the repository
	Leads  string `json:"leads"`  // as the link says
	Reason string `json:"reason"` // why it counts as outside
}
