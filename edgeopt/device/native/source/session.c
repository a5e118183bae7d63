/* A model in LiteRT: loaded, compiled for the CPU, with its buffers. */
#include "runner.h"

#include "litert.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

static LiteRt api;
static void *environment;

/* What a status means: litert/c/litert_common.h. */
static const char *meaning(int status) {
    switch (status) {
    case 1: return "invalid argument";
    case 2: return "MemoryError: memory allocation failed";
    case 3: return "runtime failure";
    case 5: return "unsupported";
    case 6: return "not found";
    case 8: return "wrong version";
    case 500: return "file error";
    case 501: return "invalid flatbuffer";
    case 504: return "compilation failed";
    default: return "failed";
    }
}

static void check(int status, const char *step) {
    if (status != OK) fail("load", "%s: %s (LiteRT status %d)", step, meaning(status), status);
}

void open_runtime(const Request *request) {
    const char *kernels[] = {"xnnpack", "builtin", "reference"};
    bool known = false;
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
        known = known || !strcmp(kernels[i], request->kernels);
    if (!known) fail("request", "there are no kernels named %.40s", request->kernels);
    void *library = request->library ? dlopen(request->library, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!library) fail("library", "%.500s", request->library ? dlerror() : "no library is named");
#define FIND(result, name, arguments) \
    *(void **)&api.name = dlsym(library, "LiteRt" #name); \
    if (!api.name) fail("library", "it has no LiteRt" #name);
    FUNCTIONS(FIND)
#undef FIND
    /* The CPU only: else it looks for the libraries of GPUs and NPUs, and may load them. */
    EnvironmentOption options[] = {{AUTO_REGISTER, {ANY_INT, CPU}},
                                   {MIN_SEVERITY, {ANY_INT, WARNING}}};
    check(api.CreateEnvironment(2, options, &environment), "environment");
}

/* How the CPU options are written: litert/c/options/litert_cpu_options.cc makes the same text. */
static void *cpu_options(const Request *request) {
    char text[64];
    snprintf(text, sizeof text, "kernel_mode = \"%.10s\"\nnum_threads = %d\n", request->kernels,
             (int)request->threads);
    void *options = NULL, *cpu = NULL;
    check(api.CreateOptions(&options), "options");
    check(api.SetOptionsHardwareAccelerators(options, CPU), "options");
    char *owned = strdup(text);
    if (!owned) fail("load", "MemoryError: no memory for the options");
    check(api.CreateOpaqueOptions("xnnpack", owned, free, &cpu), "options");
    check(api.AddOpaqueOptions(options, cpu), "options");
    return options;
}

static size_t count_of(int (*count)(void *, size_t *), void *of, const char *what) {
    size_t found = 0;
    check(count(of, &found), what);
    if (found > MAX_TENSORS) fail("load", "%zu %s are more than this runner takes", found, what);
    return found;
}

/* The signature that stands for the file's main graph, which is what an interpreter runs. */
static void *main_signature(Session *self, void **graph) {
    size_t index = 0, signatures = 0;
    void *signature = NULL, *found = NULL;
    check(api.GetMainModelSubgraphIndex(self->model, &index), "main graph");
    check(api.GetModelSubgraph(self->model, index, graph), "main graph");
    check(api.GetNumModelSignatures(self->model, &signatures), "signatures");
    for (size_t i = 0; i < signatures; i++) {
        check(api.GetModelSignature(self->model, i, &signature), "signature");
        check(api.GetSignatureSubgraph(signature, &found), "signature");
        if (found == *graph) return self->signature = i, signature;
    }
    fail("load", "no signature of the model is of its main graph: use the litert runtime");
}

static void shape_of(Shape *shape, int type, const Layout *layout) {
    *shape = (Shape){.type = type, .rank = (int)layout->rank, .bytes = element_bytes(type)};
    if (!shape->bytes)
        fail("load", "tensors of LiteRT's element type %d: use the litert runtime", type);
    if (shape->rank > MAX_RANK) fail("load", "a tensor of %d dimensions", shape->rank);
    for (int i = 0; i < shape->rank; i++) {
        shape->dims[i] = layout->dims[i];
        size_t dim = layout->dims[i] < 0 ? 0 : (size_t)layout->dims[i];
        if (dim && shape->bytes > ((size_t)1 << 40) / dim) fail("load", "a tensor is too large");
        shape->bytes *= dim;
    }
}

static int type_of(void *tensor) {
    TensorType type = {0};
    check(api.GetRankedTensorType(tensor, &type), "tensor type");
    return type.element_type;
}

/* Where the graph's tensor k stands in the signature. */
static size_t place_of(void *wanted, void *signature, size_t count,
                       int (*get)(void *, size_t, void **)) {
    void *tensor = NULL;
    for (size_t i = 0; i < count; i++) {
        check(get(signature, i, &tensor), "signature");
        if (tensor == wanted) return i;
    }
    fail("load", "the signature leaves out a tensor of the main graph: use the litert runtime");
}

static void make_buffer(Tensor *tensor, const Layout *layout, void *requirements) {
    TensorType type = {.element_type = tensor->shape.type, .layout = *layout};
    size_t size = 0;
    check(api.CreateManagedTensorBufferFromRequirements(environment, &type, requirements,
                                                        &tensor->buffer), "buffer");
    check(api.GetTensorBufferHostMemory(tensor->buffer, &tensor->memory), "buffer");
    check(api.GetTensorBufferSize(tensor->buffer, &size), "buffer");
    if (size < tensor->shape.bytes) fail("load", "a buffer of %zu bytes is too small", size);
}

/* Open dimensions take the sample's size, 1 without a sample; the runtime knows which are open. */
static void fit(Session *self, const Request *request, size_t place, size_t index) {
    Layout layout = {0};
    check(api.GetCompiledModelInputTensorLayout(self->compiled, self->signature, place, &layout),
          "input");
    const Shape *sample = request->samples ? &request->shapes[index] : NULL;
    if (sample && sample->rank != (int)layout.rank)
        fail("inputs", "input %zu has %u dimensions, not %d", index, (unsigned)layout.rank,
             sample->rank);
    int dims[MAX_RANK] = {0};
    unsigned changed = MAX_RANK;
    for (unsigned i = 0; i < layout.rank && i < MAX_RANK; i++) {
        dims[i] = sample ? sample->dims[i] : layout.dims[i] < 0 ? 1 : layout.dims[i];
        if (dims[i] != layout.dims[i] && changed == MAX_RANK) changed = i;
    }
    if (changed == MAX_RANK) return;
    if (api.CompiledModelResizeInputTensor(self->compiled, self->signature, place, dims,
                                           layout.rank) != OK)
        fail("inputs", "dimension %u of input %zu is %d, not %d", changed, index,
             layout.dims[changed], dims[changed]);
    /* The strict call judges; only the other one brings the new shape to the outputs. */
    check(api.CompiledModelResizeInputTensorNonStrict(self->compiled, self->signature, place, dims,
                                                      layout.rank), "resize");
}

static void make_inputs(Session *self, const Request *request, void *graph, void *signature,
                        size_t listed) {
    size_t places[MAX_TENSORS];
    void *tensor = NULL, *requirements = NULL;
    if (request->samples && request->inputs_per_sample != self->inputs)
        fail("inputs", "the model has %zu inputs", self->inputs);
    for (size_t k = 0; k < self->inputs; k++) {
        check(api.GetSubgraphInput(graph, k, &tensor), "input");
        places[k] = place_of(tensor, signature, listed, api.GetSignatureInputTensorByIndex);
        fit(self, request, places[k], k);
    }
    for (size_t k = 0; k < self->inputs; k++) {
        Layout layout = {0};
        check(api.GetSubgraphInput(graph, k, &tensor), "input");
        check(api.GetCompiledModelInputTensorLayout(self->compiled, self->signature, places[k],
                                                    &layout), "input");
        shape_of(&self->input[k].shape, type_of(tensor), &layout);
        check(api.GetCompiledModelInputBufferRequirements(self->compiled, self->signature,
                                                          places[k], &requirements), "input");
        make_buffer(&self->input[k], &layout, requirements);
        self->run_inputs[places[k]] = self->input[k].buffer;
    }
}

static void make_outputs(Session *self, void *graph, void *signature, size_t listed) {
    Layout layouts[MAX_TENSORS] = {{0}};
    void *tensor = NULL, *input = NULL, *requirements = NULL;
    check(api.GetCompiledModelOutputTensorLayouts(self->compiled, self->signature, listed, layouts,
                                                  true), "outputs");
    for (size_t k = 0; k < self->outputs; k++) {
        check(api.GetSubgraphOutput(graph, k, &tensor), "output");
        size_t place = place_of(tensor, signature, listed, api.GetSignatureOutputTensorByIndex);
        const Layout *layout = &layouts[place];
        for (unsigned i = 0; i < layout->rank; i++)
            if (layout->dims[i] < 0)
                fail("load", "the size of output %zu is known only after a run: use the litert"
                     " runtime", k);
        shape_of(&self->output[k].shape, type_of(tensor), layout);
        if (self->run_outputs[place])
            fail("load", "one tensor is two of its outputs: use the litert runtime");
        for (size_t i = 0; i < self->inputs; i++) {
            check(api.GetSubgraphInput(graph, i, &input), "input");
            self->passes_through = self->passes_through || input == tensor;
        }
        check(api.GetCompiledModelOutputBufferRequirements(self->compiled, self->signature, place,
                                                           &requirements), "output");
        make_buffer(&self->output[k], layout, requirements);
        self->run_outputs[place] = self->output[k].buffer;
    }
}

void open_session(Session *self, const Request *request, const void *model, size_t size) {
    void *graph = NULL;
    memset(self, 0, sizeof *self);
    check(api.CreateModelFromBuffer(environment, model, size, &self->model), "model");
    void *signature = main_signature(self, &graph);
    self->inputs = count_of(api.GetNumSubgraphInputs, graph, "inputs");
    self->outputs = count_of(api.GetNumSubgraphOutputs, graph, "outputs");
    size_t listed_in = count_of(api.GetNumSignatureInputs, signature, "inputs");
    size_t listed_out = count_of(api.GetNumSignatureOutputs, signature, "outputs");
    void *options = cpu_options(request);
    check(api.CreateCompiledModel(environment, self->model, options, &self->compiled), "compile");
    api.DestroyOptions(options);
    make_inputs(self, request, graph, signature, listed_in);
    make_outputs(self, graph, signature, listed_out);
    for (size_t i = 0; i < listed_in; i++)
        if (!self->run_inputs[i]) fail("load", "the signature has an input of its own");
    for (size_t i = 0; i < listed_out; i++)
        if (!self->run_outputs[i]) fail("load", "the signature has an output of its own");
    self->inputs = listed_in;
}

void run_session(Session *self) {
    int status = api.RunCompiledModel(self->compiled, self->signature, self->inputs,
                                      self->run_inputs, self->outputs, self->run_outputs);
    if (status != OK) fail("load", "invoke: %s (LiteRT status %d)", meaning(status), status);
}

void close_session(Session *self) {
    for (size_t k = 0; k < self->inputs; k++)
        if (self->input[k].buffer) api.DestroyTensorBuffer(self->input[k].buffer);
    for (size_t k = 0; k < self->outputs; k++)
        if (self->output[k].buffer) api.DestroyTensorBuffer(self->output[k].buffer);
    if (self->compiled) api.DestroyCompiledModel(self->compiled);
    if (self->model) api.DestroyModel(self->model);
}
