// Calls a monet-server: whole and streamed completions, a policy, cancellation, a deadline, errors.
//
//	go run . [HOST:PORT]
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	monet "example.com/monet/v1"
)

const prompt = "And the LORD"

// What gRPC does by itself: spread calls over all addresses of the name, and retry a refused call,
// but never one that has begun to answer.
const serviceConfig = `{
  "loadBalancingConfig": [{"round_robin": {}}],
  "methodConfig": [{
    "name": [{"service": "monet.v1.GenerationService"}, {"service": "monet.v1.ExpertService"},
             {"service": "monet.v1.PolicyService"}],
    "retryPolicy": {
      "maxAttempts": 5,
      "initialBackoff": "1s",
      "maxBackoff": "10s",
      "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE"]
    }
  }]
}`

func dial(address string) (*grpc.ClientConn, error) {
	return grpc.Dial("dns:///"+address,
		grpc.WithInsecure(), // newer gRPC: WithTransportCredentials(insecure.NewCredentials())
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)), // the largest response
		// Notices a dead connection, also during quiet calls.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 30 * time.Second, Timeout: 10 * time.Second}))
}

func request(maxTokens int32, policies ...string) *monet.GenerateRequest {
	return &monet.GenerateRequest{
		Prompt:   &monet.Prompt{Content: &monet.Prompt_Text{Text: prompt}},
		Mask:     &monet.MaskSpec{Policies: policies},
		Sampling: &monet.SamplingParams{Temperature: proto.Float64(0)},
		Stopping: &monet.StopConditions{MaxTokens: proto.Int32(maxTokens)},
	}
}

func generate(client monet.GenerationServiceClient) error {
	response, err := client.Generate(context.Background(), request(16))
	if err != nil {
		return err
	}
	fmt.Println("generate:", prompt+response.Completions[0].Text)
	return nil
}

func stream(client monet.GenerationServiceClient) error {
	call, err := client.GenerateStream(context.Background(),
		&monet.GenerateStreamRequest{Request: request(16)})
	if err != nil {
		return err
	}
	fmt.Print("stream: ", prompt)
	for {
		message, err := call.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch event := message.Event.(type) {
		case *monet.GenerateStreamResponse_Delta:
			fmt.Print(event.Delta.Text)
		case *monet.GenerateStreamResponse_Finish:
			fmt.Printf("\nfinish: %v, %d tokens\n",
				event.Finish.FinishReason, event.Finish.Usage.CompletionTokens)
		}
	}
}

func policy(client monet.GenerationServiceClient) error {
	response, err := client.Generate(context.Background(), request(16, "no-kjv"))
	if err != nil {
		return err
	}
	applied := response.Header.Mask.Policies[0]
	fmt.Printf("policy %s@%d: %s\n",
		applied.Name, applied.Version, prompt+response.Completions[0].Text)
	return nil
}

func cancel(client monet.GenerationServiceClient) error {
	ctx, cancelCall := context.WithCancel(context.Background())
	defer cancelCall()
	call, err := client.GenerateStream(ctx, &monet.GenerateStreamRequest{Request: request(400)})
	tokens := 0
	for err == nil {
		var message *monet.GenerateStreamResponse
		message, err = call.Recv()
		tokens += len(message.GetDelta().GetTokenIds())
		if tokens >= 5 {
			cancelCall() // the server stops within a step and frees what the call held
		}
	}
	fmt.Println("cancel:", status.Code(err))
	return nil
}

func deadline(client monet.GenerationServiceClient) error {
	// Give every call of yours one.
	ctx, cancelCall := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancelCall()
	_, err := client.Generate(ctx, request(400))
	fmt.Println("deadline:", status.Code(err))
	return nil
}

func errorDetails(client monet.GenerationServiceClient) error {
	_, err := client.Generate(context.Background(), request(16, "no-such"))
	fmt.Println("error:", status.Code(err), status.Convert(err).Message())
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			fmt.Println("reason:", detail.Reason)
		case *errdetails.BadRequest:
			fmt.Println("field:", detail.FieldViolations[0].Field)
		case *errdetails.RetryInfo:
			fmt.Println("retry after:", detail.RetryDelay)
		}
	}
	return nil
}

func main() {
	address := "127.0.0.1:50051"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	connection, err := dial(address)
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	client := monet.NewGenerationServiceClient(connection)
	for _, run := range []func(monet.GenerationServiceClient) error{
		generate, stream, policy, cancel, deadline, errorDetails} {
		if err := run(client); err != nil {
			log.Fatal(err)
		}
	}
}
