/* EDGEOPT's stand-in for libedgetpu.so.1, for tests: it owns no chip and computes nothing.
 *
 * It behaves as the plugin is documented to: no delegate without a device, one that claims
 * `edgetpu-custom-op` with one. Its operation fills every output with zeros. What goes wrong is
 * named by EDGEOPT_FAKE_CORAL. The structures are those parts of TensorFlow Lite's public C API
 * (lite/core/c/common.h) that are used here, with their layout.
 */
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char edgeopt_mark[] = "EDGEOPT STAND-IN for libedgetpu: zeros for every output";
const char edgeopt_label[] = LABEL; /* what the build of a real one leaves in its file */

typedef struct { int size; int data[]; } Ints;
typedef struct {
  int type;
  char *data;
  Ints *dims;
  float scale;
  int32_t zero;
  int kind;
  size_t bytes;
  const void *allocation;
  const char *name;
  void *delegate;
  int handle;
  char stale, variable;
  struct { int type; void *params; } quantization;
  void *sparsity;
  const Ints *signature;
} Tensor;
typedef struct { Ints *inputs, *outputs; } Node;
struct Context;
typedef struct Registration {
  void *(*init)(struct Context *, const char *, size_t);
  void (*release)(struct Context *, void *);
  int (*prepare)(struct Context *, Node *);
  int (*invoke)(struct Context *, Node *);
  const char *(*profile)(const struct Context *, const Node *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *later[6]; /* what newer runtimes added, all of it optional */
} Registration;
typedef struct Delegate {
  void *data;
  int (*prepare)(struct Context *, struct Delegate *);
  void *copy_from, *copy_to, *release_buffer;
  int64_t flags;
  void *builder;
} Delegate;
typedef struct Context {
  size_t tensors_size;
  int (*plan)(struct Context *, Ints **);
  Tensor *tensors;
  void *impl;
  int (*resize)(struct Context *, Tensor *, Ints *);
  void (*report)(struct Context *, const char *, ...);
  int (*add)(struct Context *, int, int *);
  int (*node)(struct Context *, int, Node **, Registration **);
  int (*replace)(struct Context *, Registration, const Ints *, Delegate *);
} Context;

static int told(const char *word) {
  const char *mode = getenv("EDGEOPT_FAKE_CORAL");
  return mode && !strcmp(mode, word);
}

static int prepare_op(Context *context, Node *node) {
  (void)node;
  if (told("too-old")) {
    context->report(context, "Package requires runtime version (14), which is newer than this "
                             "runtime version (13).");
    return 1;
  }
  if (told("mismatch")) {
    context->report(context, "Internal: Unsupported data type in custom op handler: 0");
    return 1;
  }
  return 0;
}

static int invoke_op(Context *context, Node *node) {
  if (told("crash-in-invoke")) raise(SIGSEGV);
  for (int i = 0; i < node->outputs->size; ++i) {
    Tensor *out = &context->tensors[node->outputs->data[i]];
    memset(out->data, 0, out->bytes);
  }
  return 0;
}

static int prepare(Context *context, Delegate *delegate) {
  Ints *plan, *mine;
  Registration kernel = {0};
  int status;
  if (context->plan(context, &plan)) return 1;
  mine = malloc(sizeof(int) * (plan->size + 1));
  mine->size = 0;
  for (int i = 0; i < plan->size; ++i) {
    Node *node;
    Registration *found;
    if (context->node(context, plan->data[i], &node, &found)) continue;
    if (found->custom_name && !strcmp(found->custom_name, "edgetpu-custom-op"))
      mine->data[mine->size++] = plan->data[i];
  }
  kernel.prepare = prepare_op;
  kernel.invoke = invoke_op;
  kernel.custom_name = "EdgeTpuDelegateForCustomOp";
  kernel.version = 1;
  status = context->replace(context, kernel, mine, delegate);
  free(mine);
  return status;
}

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count,
                                        void (*error)(const char *)) {
  Delegate *made;
  (void)error; /* libedgetpu never calls it: the reason stays empty */
  for (size_t i = 0; i < count; ++i)
    fprintf(stderr, "fake coral: option %s=%s\n", keys[i], values[i]);
  if (told("no-device")) return NULL;
  if (told("crash")) raise(SIGSEGV);
  made = calloc(1, sizeof(*made));
  made->prepare = prepare;
  made->flags = 1; /* AllowDynamicTensors: else every operation is prepared before it is claimed */
  return made;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }
