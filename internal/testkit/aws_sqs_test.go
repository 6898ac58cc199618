package testkit_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/waymark-cd/waymark/internal/testkit"
)

func sqsClient(a *testkit.AWS, region, id, secret string) *sqs.Client {
	return sqs.New(sqs.Options{Region: region, BaseEndpoint: aws.String(a.Endpoints()["sqs"]), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, "")})
}

func TestSQSKeepsMessagesUntilTheyAreDeleted(t *testing.T) {
	a := testkit.StartAWS(t)
	url := a.CreateQueue("us-east-1", "hints")
	id, secret := a.Service()
	c := sqsClient(a, "us-east-1", id, secret)
	receive := func(wait, hide int32) *types.Message {
		t.Helper()
		out, err := c.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url, MaxNumberOfMessages: 10, WaitTimeSeconds: wait,
			VisibilityTimeout: hide, MessageSystemAttributeNames: []types.MessageSystemAttributeName{"ApproximateReceiveCount"}})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Messages) == 0 {
			return nil
		}
		return &out.Messages[0]
	}
	if m := receive(0, 60); m != nil {
		t.Fatalf("an empty queue gives %+v", m)
	}
	go func() {
		_, _ = c.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("hello")})
	}()
	first := receive(20, 60) // waits for the message
	if first == nil || *first.Body != "hello" || first.Attributes["ApproximateReceiveCount"] != "1" {
		t.Fatalf("received %+v", first)
	}
	if m := receive(0, 60); m != nil {
		t.Fatalf("a hidden message is given again: %+v", m)
	}
	hide := func(m *types.Message, seconds int32) error {
		_, err := c.ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{QueueUrl: &url, ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: seconds})
		return err
	}
	remove := func(m *types.Message) {
		t.Helper()
		if _, err := c.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: &url, ReceiptHandle: m.ReceiptHandle}); err != nil {
			t.Fatal(err)
		}
	}
	if err := hide(first, 0); err != nil {
		t.Fatal(err)
	}
	var notInFlight *types.MessageNotInflight
	if err := hide(first, 60); !errors.As(err, &notInFlight) {
		t.Errorf("hiding a visible message: %v", err)
	}
	second := receive(20, 1) // and comes back by itself
	third := receive(20, 60)
	if second == nil || third == nil || third.Attributes["ApproximateReceiveCount"] != "3" {
		t.Fatalf("received %+v, then %+v", second, third)
	}
	remove(second)
	if q := a.Queue(url); len(q) != 1 || !q[0].InFlight || q[0].Receives != 3 {
		t.Errorf("after a delete with an old handle: %+v", q)
	}
	a.Reappear(url)
	if q := a.Queue(url); q[0].InFlight {
		t.Errorf("still in flight: %+v", q)
	}
	out, err := c.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{"All"}})
	if err != nil || out.Attributes["ApproximateNumberOfMessages"] != "1" || out.Attributes["QueueArn"] != "arn:aws:sqs:us-east-1:111122223333:hints" {
		t.Errorf("attributes %v, %v", out, err)
	}
	remove(third)
	if q := a.Queue(url); len(q) != 0 {
		t.Errorf("after the delete: %+v", q)
	}
	if err := hide(third, 60); err == nil || !strings.Contains(err.Error(), "Message does not exist") {
		t.Errorf("hiding a deleted message: %v", err)
	}
}

func TestSQSRefusals(t *testing.T) {
	a := testkit.StartAWS(t)
	url := a.CreateQueue("us-east-1", "hints")
	id, secret := a.Service()
	sender, senderSecret := a.Principal("arn:aws:iam::111122223333:user/sender",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sqs:SendMessage","Resource":"arn:aws:sqs:us-east-1:111122223333:hints"}]}`)
	for _, tt := range []struct {
		name       string
		client     *sqs.Client
		url        string
		code, says string
	}{
		{"no such queue", sqsClient(a, "us-east-1", id, secret), url + "-not", "AWS.SimpleQueueService.NonExistentQueue", "does not exist"},
		{"other Region", sqsClient(a, "eu-west-1", id, secret), url, "InvalidAddress", "not valid for this endpoint"},
		{"wrong secret", sqsClient(a, "us-east-1", id, "x"), url, "SignatureDoesNotMatch", ""},
		{"unknown key", sqsClient(a, "us-east-1", "AKIAX", "x"), url, "InvalidClientTokenId", ""},
		{"no permission", sqsClient(a, "us-east-1", sender, senderSecret), url, "AccessDenied", "not authorized to perform: sqs:ReceiveMessage"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &tt.url})
			var api smithy.APIError
			if !errors.As(err, &api) || api.ErrorCode() != tt.code || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want code %s and %q", err, tt.code, tt.says)
			}
		})
	}
	if _, err := sqsClient(a, "us-east-1", sender, senderSecret).SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("x")}); err != nil {
		t.Errorf("the sender may not send: %v", err)
	}
	a.Fail("sqs", "ReceiveMessage", "ThrottlingException", 400, 1)
	_, err := sqsClient(a, "us-east-1", id, secret).ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url})
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "ThrottlingException" {
		t.Errorf("error %v", err)
	}
}
