/* What is used of the C API of LiteRT 2 (Apache-2.0, github.com/google-ai-edge/LiteRT, litert/c).
 *
 * The wheel has no headers. The types and signatures here are those of 2.1.6 to 2.3.0; other
 * releases have others (2.1.2 makes a model without an environment): the host calls no release that
 * the tests have not compared.
 */
#ifndef EDGEOPT_LITERT_H
#define EDGEOPT_LITERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    unsigned int rank : 7;
    unsigned int has_strides : 1;
    int32_t dims[8];
    uint32_t strides[8];
} Layout;

typedef struct {
    int element_type;
    Layout layout;
} TensorType;

typedef struct {
    int tag;
    struct {
        int type;
        int64_t value;
    } any;
} EnvironmentOption;

enum { OK = 0, CPU = 1, ANY_INT = 2, AUTO_REGISTER = 24, MIN_SEVERITY = 25, WARNING = 2 };

/* X(result, name, arguments): every function that is called, all returning LiteRtStatus but void */
#define FUNCTIONS(X) \
    X(int, CreateEnvironment, (int, const EnvironmentOption *, void **)) \
    X(int, CreateModelFromBuffer, (void *, const void *, size_t, void **)) \
    X(int, GetMainModelSubgraphIndex, (void *, size_t *)) \
    X(int, GetModelSubgraph, (void *, size_t, void **)) \
    X(int, GetNumSubgraphInputs, (void *, size_t *)) \
    X(int, GetSubgraphInput, (void *, size_t, void **)) \
    X(int, GetNumSubgraphOutputs, (void *, size_t *)) \
    X(int, GetSubgraphOutput, (void *, size_t, void **)) \
    X(int, GetNumModelSignatures, (void *, size_t *)) \
    X(int, GetModelSignature, (void *, size_t, void **)) \
    X(int, GetSignatureSubgraph, (void *, void **)) \
    X(int, GetNumSignatureInputs, (void *, size_t *)) \
    X(int, GetSignatureInputTensorByIndex, (void *, size_t, void **)) \
    X(int, GetNumSignatureOutputs, (void *, size_t *)) \
    X(int, GetSignatureOutputTensorByIndex, (void *, size_t, void **)) \
    X(int, GetRankedTensorType, (void *, TensorType *)) \
    X(void, DestroyModel, (void *)) \
    X(int, CreateOptions, (void **)) \
    X(int, SetOptionsHardwareAccelerators, (void *, int)) \
    X(int, CreateOpaqueOptions, (const char *, void *, void (*)(void *), void **)) \
    X(int, AddOpaqueOptions, (void *, void *)) \
    X(void, DestroyOptions, (void *)) \
    X(int, CreateCompiledModel, (void *, void *, void *, void **)) \
    X(int, CompiledModelResizeInputTensor, (void *, size_t, size_t, const int *, size_t)) \
    X(int, CompiledModelResizeInputTensorNonStrict, (void *, size_t, size_t, const int *, size_t)) \
    X(int, GetCompiledModelInputTensorLayout, (void *, size_t, size_t, Layout *)) \
    X(int, GetCompiledModelOutputTensorLayouts, (void *, size_t, size_t, Layout *, bool)) \
    X(int, GetCompiledModelInputBufferRequirements, (void *, size_t, size_t, void **)) \
    X(int, GetCompiledModelOutputBufferRequirements, (void *, size_t, size_t, void **)) \
    X(int, CreateManagedTensorBufferFromRequirements, \
      (void *, const TensorType *, void *, void **)) \
    X(int, GetTensorBufferHostMemory, (void *, void **)) \
    X(int, GetTensorBufferSize, (void *, size_t *)) \
    X(void, DestroyTensorBuffer, (void *)) \
    X(int, RunCompiledModel, (void *, size_t, size_t, void **, size_t, void **)) \
    X(void, DestroyCompiledModel, (void *))

#define DECLARE(result, name, arguments) result(*name) arguments;
typedef struct {
    FUNCTIONS(DECLARE)
} LiteRt;
#undef DECLARE

#endif
